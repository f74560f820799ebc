"""Mean and covariance of feature vectors, gathered chunk by chunk in float64."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64s = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Moments:
    """The first two moments of n feature vectors of length d."""

    n: int
    mean: Float64s
    """(d,)."""
    scatter: Float64s
    """(d, d): the sum of (x - mean)(x - mean)'."""

    @classmethod
    def of(cls, features: ArrayLike) -> Moments:
        """Of n >= 1 vectors, shape (n, d).

        Raises:
            ValueError: another shape, or a feature that is not finite.
        """
        x = np.asarray(features, dtype=np.float64)
        if x.ndim != 2 or len(x) == 0:
            raise ValueError(f"features must be shaped (n, d) with n of 1 or more, got {x.shape}")
        if not np.isfinite(x).all():
            image = int(np.argwhere(~np.isfinite(x))[0, 0])
            raise ValueError(f"features must be finite, but those of image {image} of the chunk are not")
        mean = x.mean(axis=0)
        centred = x - mean
        return cls(len(x), mean, centred.T @ centred)

    @classmethod
    def pooled(cls, parts: Iterable[Moments]) -> Moments:
        """Of all vectors together: the same as `of` on the concatenated features, up to rounding.

        Args:
            parts: taken one at a time, so that an iterator's are never held together.

        Raises:
            ValueError: no parts.
        """
        rest = iter(parts)
        if (first := next(rest, None)) is None:
            raise ValueError("moments need at least one chunk of features, got none")
        return reduce(cls._merged, rest, first)

    def _merged(self, other: Moments) -> Moments:
        """Chan, Golub & LeVeque 1979: the means' distance is what the two scatters do not know of."""
        n = self.n + other.n
        shift = other.mean - self.mean
        mean = self.mean + shift * (other.n / n)
        return Moments(n, mean, self.scatter + other.scatter + np.outer(shift, shift) * (self.n * other.n / n))

    def without(self, part: Moments) -> Moments:
        """Of the other vectors: what was pooled with `part`, which must be fewer than all, up to rounding."""
        n = self.n - part.n
        shift = (self.mean - part.mean) * (self.n / n)
        mean = part.mean + shift
        return Moments(n, mean, self.scatter - part.scatter - np.outer(shift, shift) * (n * part.n / self.n))

    @property
    def covariance(self) -> Float64s:
        """(d, d): the unbiased covariance, scatter / (n - 1).

        Raises:
            ValueError: a single vector has none.
        """
        if self.n < 2:
            raise ValueError(f"a covariance needs two or more vectors, got {self.n}")
        return self.scatter / (self.n - 1)
