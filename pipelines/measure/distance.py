"""How far the samples are from the training images, and beside it how far real images are that were held out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import DataError
from pipelines.measure.described import describe
from pipelines.measure.features import WorkersFor, this_process
from pipelines.measure.reference import Reference, ReferenceCard
from pipelines.measure.sampling import Samples, SamplesCard, read_samples
from pipelines.measure.scores import Scores, Scoring, score
from pipelines.sections import fewest_images

ENOUGH = 10_000
"""Images below which an FID comes with a warning."""


@dataclass(frozen=True)
class DistanceCard:
    """What a distance depends on. Distances with different cards are not compared."""

    samples: SamplesCard
    reference: ReferenceCard
    scoring: Scoring
    device: str
    """Where the samples' features were computed."""
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Distance:
    """All measures of the samples, and of held-out images."""

    samples: Scores
    held_out: Scores | None
    """What the same measures say of real images: of as many as there are samples, or of all if these are fewer, with a
    larger bias: compare the values for infinitely many. None where the test split is too small."""
    card: DistanceCard

    @property
    def metric(self) -> str:
        """What the Fréchet distance is called."""
        return self.card.reference.metric

    def content(self) -> dict[str, Any]:
        """As it stands in metrics.json."""
        beside = {"held_out": self.held_out.numbers()} if self.held_out else {}
        return {**self.samples.numbers(), **beside, "card": asdict(self.card)}

    def summary(self) -> str:
        """The Fréchet distances for a person."""

        def line(scores: Scores, what: str) -> str:
            d = scores.frechet
            return f"{d.value:.3g} ({d.low:.3g} to {d.high:.3g}) of {scores.images} {what}"

        beside = f", {line(self.held_out, 'held-out images')}" if self.held_out else ""
        return f"{self.metric} {line(self.samples, 'samples')}{beside}"


def distance_of_samples(
    samples: Path, reference: Reference, seed: int, workers_for: WorkersFor = this_process
) -> Distance:
    """Compare what the sample stage left with what the reference stage left.

    Args:
        samples: folder of the samples.
        seed: of the resamples.
        workers_for: what computes the samples' features.

    Raises:
        DataError: the samples are missing or damaged, of another shape than the reference's images, or too few for the
            number of features.
    """
    drawn = read_samples(samples)
    _check_fit(drawn, reference.card)
    count = len(drawn.images)
    workers = workers_for(reference.extractor, count)
    features = describe(
        workers.extraction(drawn.card.levels), count, lambda part: drawn.images[part.start : part.stop], workers.mapper
    ).features
    beside = reference.held_out[:count]
    enough = len(beside) >= fewest_images(reference.card.features)
    sets = (count, len(beside)) if enough else (count,)
    how = Scoring.of(sets, len(reference.features), seed)
    return Distance(
        samples=score(features, reference.against, how),
        held_out=score(beside, reference.against, how) if enough else None,
        card=DistanceCard(
            samples=drawn.card,
            reference=reference.card,
            scoring=how,
            device=workers.device,
            warnings=doubts(reference.card.extractor, count, reference.card.images),
        ),
    )


def _check_fit(drawn: Samples, card: ReferenceCard) -> None:
    count = len(drawn.images)
    if drawn.card.shape != card.shape:
        raise DataError(
            f"the samples are shaped {drawn.card.shape} and the reference's images {card.shape}: run `dvc repro`"
        )
    if count < (fewest := fewest_images(card.features)):
        raise DataError(
            f"the covariance of {card.features} features of {count} samples is singular or close to it: "
            f"set sample.count to {fewest} or more, or take an extractor with fewer features"
        )


def doubts(extractor: str, *sets: int) -> tuple[str, ...]:
    """What a person should know of a distance between sets of so many images."""
    if extractor != "inception" or min(sets) >= ENOUGH:
        return ()
    return (
        f"FID of {min(sets):,} images: below {ENOUGH:,} its bias exceeds most differences between models, so read the "
        "value for infinitely many images, or KID",
    )
