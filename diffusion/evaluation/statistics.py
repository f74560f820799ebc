"""Means with their standard errors, in one go or gathered part by part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64s = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over independent values, and how far it may be off."""

    mean: float
    standard_error: float
    """Standard deviation of the mean: s / sqrt(n), with s^2 the unbiased variance of the n values."""

    @classmethod
    def of(cls, values: ArrayLike) -> Estimate:
        """The mean of n >= 2 values, shape (n,).

        Raises:
            ValueError: fewer than two values, more than one axis, or a value that is not finite.
        """
        x = np.asarray(values, dtype=np.float64)
        if x.ndim != 1 or len(x) < 2:
            raise ValueError(f"a standard error needs a list of two or more values, got shape {x.shape}")
        if not np.isfinite(x).all():
            raise ValueError(f"values must be finite, but value {int(np.argmin(np.isfinite(x)))} of {len(x)} is not")
        return cls(float(x.mean()), float(x.std(ddof=1)) / sqrt(len(x)))


@dataclass(frozen=True)
class Measured:
    """A number that is no mean over independent values, and how far it may be off."""

    value: float
    standard_error: float
    """Estimated standard deviation of the value over other sets of images."""


@dataclass(frozen=True, eq=False)
class Spread:
    """Means and squared deviations of d quantities over n observations; parts can be added up."""

    n: int
    mean: Float64s
    """(d,)."""
    squares: Float64s
    """(d,): the sum of squared deviations from the mean."""

    @classmethod
    def of(cls, values: ArrayLike) -> Spread:
        """Of n >= 1 observations of d quantities, shape (n, d)."""
        x = np.asarray(values, dtype=np.float64)
        if x.ndim != 2 or len(x) == 0:
            raise ValueError(f"observations must be shaped (n, d) with n of 1 or more, got {x.shape}")
        mean = x.mean(axis=0)
        return cls(len(x), mean, ((x - mean) ** 2).sum(axis=0))

    @classmethod
    def pooled(cls, parts: Iterable[Spread]) -> Spread:
        """Of all observations together: the same as `of` on the concatenated values, up to rounding.

        Raises:
            ValueError: no parts.
        """
        if not (listed := list(parts)):
            raise ValueError("statistics need at least one chunk of observations, got none")
        return reduce(cls._merged, listed)

    def _merged(self, other: Spread) -> Spread:
        """Chan, Golub & LeVeque 1979: stable where sums of squares are not."""
        n = self.n + other.n
        shift = other.mean - self.mean
        mean = self.mean + shift * (other.n / n)
        return Spread(n, mean, self.squares + other.squares + shift**2 * (self.n * other.n / n))

    @property
    def standard_error(self) -> Float64s:
        """(d,): of each mean, sqrt(squares / (n - 1) / n).

        Raises:
            ValueError: a single observation has none.
        """
        if self.n < 2:
            raise ValueError(f"a standard error needs two or more observations, got {self.n}")
        return np.sqrt(self.squares / (self.n - 1) / self.n)
