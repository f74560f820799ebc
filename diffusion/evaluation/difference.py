"""The difference between two measured numbers, and how sure it is which of them is larger."""

from __future__ import annotations

from dataclasses import dataclass
from math import copysign, hypot, inf, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr

from diffusion.evaluation.statistics import Estimate, Measured


@dataclass(frozen=True)
class Difference:
    """How much more the second number is than the first."""

    value: float
    standard_error: float
    degrees: float = inf
    """Degrees of freedom behind the standard error; infinite: the error counts as known."""

    @property
    def probability(self) -> float:
        """That the true difference is above zero: Student's t at value / error, with a flat prior.

        One minus this is the p-value of the one-sided test; below 0.025 or above 0.975 is significant at 5%, two-sided.
        """
        if self.standard_error == 0:
            t = copysign(inf, self.value) if self.value else 0.0
        else:
            t = self.value / self.standard_error
        return float(stdtr(self.degrees, t))


def paired(first: ArrayLike, second: ArrayLike) -> Difference:
    """Of the means of two rows of numbers, (n,) each, of the same n >= 2 images: what is hard for both cancels.

    Raises:
        ValueError: they are not of the same length, fewer than two, or not finite.
    """
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if x.shape != y.shape:
        raise ValueError(f"pairs need two rows of the same length, got {x.shape} and {y.shape}")
    between = Estimate.of(y - x)
    return Difference(between.mean, between.standard_error, len(x) - 1)


def unpaired(first: Measured, second: Measured) -> Difference:
    """Of two independent numbers whose errors count as known and normal."""
    return Difference(second.value - first.value, hypot(first.standard_error, second.standard_error))


def welch(first: ArrayLike, second: ArrayLike) -> Difference:
    """Of the means of two independent sets of n >= 2 and m >= 2 numbers, with a spread each (Welch 1947, eq. 28).

    Raises:
        ValueError: a set has fewer than two numbers, or one that is not finite.
    """
    x, y = Estimate.of(first), Estimate.of(second)
    u, v = x.standard_error**2, y.standard_error**2
    n, m = np.size(first), np.size(second)
    degrees = (u + v) ** 2 / (u**2 / (n - 1) + v**2 / (m - 1)) if u + v else inf
    return Difference(y.mean - x.mean, sqrt(u + v), degrees)
