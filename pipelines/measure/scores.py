"""How far a set of images is from another one: every measure, from the features alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from diffusion.evaluation import (
    FrechetInterval,
    Measured,
    PrecisionRecall,
    frechet_at_infinity,
    frechet_interval,
    kid,
    precision_recall,
)
from diffusion.training.random import numbers
from pipelines.measure.features import Features
from pipelines.sections import GROUPS

PAIRED = 10_000
"""Images of a set, at most, that are compared with each image of the other: the cost grows with their product."""


@dataclass(frozen=True)
class Scoring:
    """How the measures are taken. Part of every card."""

    paired: int
    """KID, precision and recall compare the first so many images, of the samples as of the held-out ones .."""
    paired_reference: int
    """.. with the first so many of the reference."""
    resamples: int
    """Of the bootstrap."""
    level: float
    """Of the interval."""
    groups: int
    """That are left out in turn for the infinite-sample value."""
    k: int
    """Precision and recall reach to the k-th neighbour."""
    seed: int
    """Of the resamples and the groups."""

    @classmethod
    def of(cls, sets: Iterable[int], reference: int, seed: int) -> Scoring:
        """The usual one.

        Args:
            sets: numbers of images of the sets that are scored beside each other.
            reference: number of the reference's images whose features are known.
        """
        paired, paired_reference = min(PAIRED, *sets), min(PAIRED, reference)
        return cls(paired, paired_reference, resamples=100, level=0.95, groups=GROUPS, k=3, seed=seed)


@dataclass(frozen=True, eq=False)
class Against:
    """What a set is compared with."""

    mean: NDArray[np.float64]
    """(d,)."""
    covariance: NDArray[np.float64]
    """(d, d)."""
    features: Features
    """(m, d), of its first m images."""


@dataclass(frozen=True)
class Scores:
    """How far a set of images is from another one."""

    images: int
    frechet: FrechetInterval
    infinity: Measured
    """The Fréchet distance without the bias of so few images."""
    kid: Measured
    neighbours: PrecisionRecall

    def numbers(self) -> dict[str, float]:
        """Under their names in metrics.json; `_se` are standard errors."""
        return {
            "images": self.images,
            "value": self.frechet.value,
            "value_se": self.frechet.standard_error,
            "low": self.frechet.low,
            "high": self.frechet.high,
            "infinity": self.infinity.value,
            "infinity_se": self.infinity.standard_error,
            "kid": self.kid.value,
            "kid_se": self.kid.standard_error,
            **asdict(self.neighbours),
        }


def score(features: Features, against: Against, how: Scoring) -> Scores:
    """All measures of a set with these features, (n, d), n at least `fewest_images(d)`."""
    gaussian = against.mean, against.covariance
    few, known = features[: how.paired], against.features[: how.paired_reference]
    return Scores(
        images=len(features),
        frechet=frechet_interval(features, *gaussian, numbers(how.seed, "frechet-resamples"), how.resamples, how.level),
        infinity=frechet_at_infinity(features, *gaussian, numbers(how.seed, "frechet-groups"), how.groups),
        kid=kid(few, known),
        neighbours=precision_recall(few, known, how.k),
    )
