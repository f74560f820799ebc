"""How much the Fréchet distance would differ with other samples: a bootstrap over the images."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffusion.evaluation.features import Features, checked, slices
from diffusion.evaluation.frechet import frechet_distance
from diffusion.evaluation.moments import Moments

_ROWS = 4096
"""Of a block: merging the moments of smaller ones would cost as much as taking them."""


@dataclass(frozen=True)
class FrechetInterval:
    """The Fréchet distance of n samples, and where its expectation over sets of n samples lies.

    It covers the error of sampling alone. The bias at that n, which is the same for every set of n samples, stays in
    (`frechet_at_infinity` takes it out), and the reference's statistics count as exact.
    """

    value: float
    standard_error: float
    low: float
    high: float


def frechet_interval(
    samples: ArrayLike,
    mean: ArrayLike,
    covariance: ArrayLike,
    draws: np.random.Generator,
    resamples: int = 100,
    level: float = 0.95,
) -> FrechetInterval:
    """value +- z s, with s the standard deviation of the distance over resamples (Efron & Tibshirani 1993, chapter 6).

    The quantiles of the resampled distances would not do: resampling adds the bias once more, so that they lie too
    high. That hardly moves s, except where the distance is of the size of its bias: there s is too large (by about
    sqrt(3) when the samples have the reference's law), and the interval wider than it need be.

    Cost: `resamples` times a covariance (n d^2 multiplications) and a distance (a few d^3); memory for the features,
    a block of them and some d x d.

    Args:
        samples: (n, d) with n > d.
        mean, covariance: (d,) and (d, d), of the reference.
        draws: which images are resampled.
        resamples: 2 or more; 100 know s to 7%.
        level: of the interval, between 0 and 1.

    Raises:
        ValueError: too few vectors, a feature that is not finite, or as `frechet_distance`.
    """
    if resamples < 2 or not 0 < level < 1:
        raise ValueError(f"it takes 2 resamples or more and a level between 0 and 1, got {resamples} and {level}")
    x = checked(samples, "the samples", least=np.size(mean) + 1)
    n = len(x)

    def distance(images: NDArray[np.int64]) -> float:
        moments = _moments(x, images)
        return frechet_distance(moments.mean, moments.covariance, mean, covariance)

    value = distance(np.arange(n))
    error = float(np.std([distance(draws.integers(n, size=n)) for _ in range(resamples)], ddof=1))
    half = NormalDist().inv_cdf((1 + level) / 2) * error
    return FrechetInterval(value, error, max(0.0, value - half), value + half)


def _moments(x: Features, images: NDArray[np.int64]) -> Moments:
    return Moments.pooled(Moments.of(x[images[rows]]) for rows in slices(len(images), _ROWS))
