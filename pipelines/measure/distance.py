"""The Fréchet distance of the samples to the training images, in the features of the reference stage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.cluster.parallel import Mapper, serial_map
from pipelines.errors import DataError
from pipelines.measure.features import Extraction, moments_of
from pipelines.measure.reference import ReferenceCard, read_reference
from pipelines.measure.sampling import SamplesCard, read_samples


@dataclass(frozen=True)
class DistanceCard:
    """What a distance depends on. Distances with different cards are not compared."""

    samples: SamplesCard
    reference: ReferenceCard


@dataclass(frozen=True)
class Distance:
    """The squared Fréchet distance, as FID is."""

    value: float
    card: DistanceCard


def distance_of_samples(samples: Path, reference: Path, mapper: Mapper = serial_map) -> Distance:
    """Compare what the sample stage left with what the reference stage left.

    Args:
        samples: folder of the samples.
        reference: folder of the extractor and its statistics.

    Raises:
        DataError: a folder is missing or damaged, the samples are of another shape than the reference's images, or too
            few for the number of features.
    """
    drawn, known = read_samples(samples), read_reference(reference)
    design, count = known.card.design, len(drawn.images)
    wanted = (design.channels, design.side, design.side)
    if drawn.card.shape != wanted:
        raise DataError(
            f"the samples are shaped {drawn.card.shape} and the reference's images {wanted}: run `dvc repro`"
        )
    if count <= design.features:
        raise DataError(
            f"the covariance of {design.features} features of {count} samples is singular: "
            f"set sample.count to {design.features + 1} or more, or reference.features below {count}"
        )
    extraction = Extraction(known.extractor, drawn.card.levels, "cpu")  # as the reference's own
    moments = moments_of(extraction, count, lambda part: drawn.images[part.start : part.stop], mapper)
    return Distance(known.distance(moments), DistanceCard(drawn.card, known.card))
