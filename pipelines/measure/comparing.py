"""One set of images against another, and beside it two halves of the second against each other: the floor."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from diffusion.evaluation import check_full_rank
from pipelines.errors import DataError
from pipelines.measure.described import Described, describe, moments_of
from pipelines.measure.distance import doubts
from pipelines.measure.extractor import Extractor
from pipelines.measure.features import Workers, WorkersFor, this_process
from pipelines.measure.image_sets import ImageSet
from pipelines.measure.pretrained import Pretrained
from pipelines.measure.reference import metric_of
from pipelines.measure.scores import Against, Scores, Scoring, score
from pipelines.sections import fewest_images


@dataclass(frozen=True)
class ComparisonCard:
    """What the numbers depend on, besides the images."""

    a: str
    """As it was given."""
    b: str
    b_images: int
    extractor: str
    extractor_digest: str
    features: int
    resize: str
    levels: tuple[int, int]
    """Of the two sets, scaled to 0..255."""
    scoring: Scoring
    device: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """How far A is from B."""

    scores: Scores
    halves: Scores | None
    """One half of B against the other. None where they are too small."""
    card: ComparisonCard

    @property
    def metric(self) -> str:
        """What the Fréchet distance is called."""
        return metric_of(self.card.extractor)

    def content(self) -> dict[str, Any]:
        """For JSON."""
        floor = {"halves": self.halves.numbers()} if self.halves else {}
        return {self.metric: {**self.scores.numbers(), **floor, "card": asdict(self.card)}}


def compare(
    a: ImageSet,
    b: ImageSet,
    network: Extractor | Pretrained,
    name: str,
    seed: int = 0,
    workers_for: WorkersFor = this_process,
) -> Comparison:
    """All measures of A against B.

    Args:
        name: of the network: `inception`, `classifier` ..
        seed: of the resamples.
        workers_for: what computes the features.

    Raises:
        DataError: an image cannot be used, or there are too few for the number of features.
    """
    fewest = fewest_images(network.features)
    for images in (a, b):
        if images.count < fewest:
            raise DataError(
                f"the covariance of {network.features} features of {images.count} images in {images.name} is singular "
                f"or close to it: it takes {fewest} images or more, or an extractor with fewer features"
            )
    workers = workers_for(network, a.count + b.count)
    of_a, of_b = (_described(images, workers) for images in (a, b))
    _check_rank(of_b, b)
    half = b.count // 2 if b.count // 2 >= fewest else None
    how = Scoring.of([a.count, half or a.count], half or b.count, seed)
    card = ComparisonCard(
        a=a.name,
        b=b.name,
        b_images=b.count,
        extractor=name,
        extractor_digest=network.digest,
        features=network.features,
        resize=network.resize,
        levels=(a.levels, b.levels),
        scoring=how,
        device=workers.device,
        warnings=doubts(name, a.count, b.count),
    )
    return Comparison(score(of_a.features, _against(of_b), how), _halves(of_b, half, how), card)


def _described(images: ImageSet, workers: Workers) -> Described:
    read = lambda part: workers.carried(images.read(part))  # noqa: E731
    return describe(workers.extraction(images.levels), images.count, read, workers.mapper)


def _halves(of_b: Described, half: int | None, how: Scoring) -> Scores | None:
    if half is None:
        return None
    first, second = of_b.features[:half], of_b.features[half : 2 * half]
    return score(first, _against(Described(moments_of(second), second)), how)


def _against(described: Described) -> Against:
    return Against(described.moments.mean, described.moments.covariance, described.features)


def _check_rank(described: Described, images: ImageSet) -> None:
    try:
        check_full_rank(described.moments, images.name)
    except ValueError as error:
        raise DataError(str(error)) from error
