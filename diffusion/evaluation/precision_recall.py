"""Fidelity and variety apart: which samples lie among the reference's images, and which of those are reached."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffusion.evaluation.features import Features, checked_pair, pairs_between, pairs_within

Float64s = NDArray[np.float64]


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares of two sets of images. Each image has a ball that reaches to its k-th neighbour in its own set."""

    precision: float
    """The share of the samples in some ball of the reference. Falls when samples look like no real image."""
    recall: float
    """The share of the reference in some ball of the samples. Falls when kinds of images are not drawn."""
    density: float
    """How many balls of the reference hold a sample, on average, over k: 1 or so for equal laws, and more for
    samples that keep to the middle. One outlier with a wide ball does not raise it as it does the precision."""
    coverage: float
    """The share of the reference whose own ball holds a sample. Outliers among the samples do not raise it."""


def precision_recall(samples: ArrayLike, reference: ArrayLike, k: int = 3) -> PrecisionRecall:
    """Kynkäänniemi et al. 2019, eq. 1 and 2; density and coverage: Naeem et al. 2020.

    x lies in the ball of y if |x - y| <= |y - NN_k(y)|, where NN_k(y) is the k-th nearest to y of the others in its
    set. All four depend on the numbers of images: compare them at equal ones. Naeem et al. take k = 5 and < for <=.

    Cost: (n^2 + m^2) d / 2 + n m d multiplications; memory for the features and a few blocks of 1024 x 1024.

    Args:
        samples: (n, d).
        reference: (m, d).
        k: which neighbour; both sets need more images than that.

    Raises:
        ValueError: k below 1, too few vectors, different features, or a feature that is not finite.
    """
    if k < 1:
        raise ValueError(f"k must be 1 or more, got {k}")
    x, y = checked_pair(samples, reference, least=k + 1)
    radius_x, radius_y = _squared_radii(x, k), _squared_radii(y, k)
    balls = np.zeros(len(x), dtype=np.int64)
    recalled, covered = np.zeros(len(y), dtype=bool), np.zeros(len(y), dtype=bool)
    for i, j, x_i, y_j in pairs_between(x, y):
        square = _squared_distances(x_i, y_j)
        in_reference = square <= radius_y[j]
        balls[i] += in_reference.sum(axis=1)
        covered[j] |= in_reference.any(axis=0)
        recalled[j] |= (square <= radius_x[i, None]).any(axis=0)
    return PrecisionRecall(
        precision=float((balls > 0).mean()),
        recall=float(recalled.mean()),
        density=float(balls.mean()) / k,
        coverage=float(covered.mean()),
    )


def _squared_radii(x: Features, k: int) -> Float64s:
    """(n,): the squared distance of each vector to the k-th nearest of the others."""
    nearest = np.full((len(x), k), np.inf)
    for i, j, x_i, x_j in pairs_within(x):
        square = _squared_distances(x_i, x_j)
        if i == j:
            np.fill_diagonal(square, np.inf)
        else:
            nearest[j] = _smallest(nearest[j], square.T)
        nearest[i] = _smallest(nearest[i], square)
    farthest: Float64s = nearest.max(axis=1)
    return farthest


def _smallest(known: Float64s, more: Float64s) -> Float64s:
    k = known.shape[1]
    return np.partition(np.hstack([known, more]), k - 1, axis=1)[:, :k]


def _squared_distances(x: Float64s, y: Float64s) -> Float64s:
    """|x|^2 + |y|^2 - 2 x . y, and 0 where only rounding is left: copies of an image are at no distance."""
    lengths = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1)
    square: Float64s = lengths - 2 * (x @ y.T)
    square[square < x.shape[1] * np.finfo(np.float64).eps * lengths] = 0
    return square
