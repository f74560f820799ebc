"""Feature vectors of sets of images: checked once, then taken block by block, so that no n x n matrix is ever held."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Features = NDArray[Any]
"""(n, d), in the type they came in: only blocks become float64."""
Float64s = NDArray[np.float64]

_BLOCK = 1024
"""Rows: a matrix of two blocks takes 8 MiB."""


def checked(features: ArrayLike, what: str, least: int) -> Features:
    """Features of one set of images.

    Args:
        what: whose features they are, for the message: "the samples".
        least: how many vectors are needed.

    Raises:
        ValueError: another shape than (n, d), too few vectors, or a feature that is not finite.
    """
    x = np.asarray(features)
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"the features of {what} must be shaped (n, d), got {x.shape}")
    if len(x) < least:
        raise ValueError(f"{what} must be at least {least} images with {x.shape[1]} features, got {len(x)}")
    for rows in slices(len(x)):
        if not (finite := np.isfinite(x[rows]).all(axis=1)).all():
            image = rows.start + int(finite.argmin())
            raise ValueError(f"features must be finite, but those of image {image} of {what} are not")
    return x


def checked_pair(samples: ArrayLike, reference: ArrayLike, least: int) -> tuple[Features, Features]:
    """Features of two sets of images, `least` or more in each.

    Raises:
        ValueError: as `checked`, or the two have different features.
    """
    x, y = checked(samples, "the samples", least), checked(reference, "the reference", least)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"both sets must have the same features, got {x.shape[1]} and {y.shape[1]}")
    return x, y


def slices(n: int, rows: int = _BLOCK) -> list[slice]:
    """0..n-1, cut into blocks."""
    return [slice(start, min(start + rows, n)) for start in range(0, n, rows)]


def pairs_between(x: Features, y: Features) -> Iterator[tuple[slice, slice, Float64s, Float64s]]:
    """Every block of x with every block of y."""
    for i in slices(len(x)):
        x_i = x[i].astype(np.float64)
        for j in slices(len(y)):
            yield i, j, x_i, y[j].astype(np.float64)


def pairs_within(x: Features) -> Iterator[tuple[slice, slice, Float64s, Float64s]]:
    """Every two blocks of x once, and every block with itself."""
    for i in slices(len(x)):
        x_i = x[i].astype(np.float64)
        for j in slices(len(x)):
            if j.start >= i.start:
                yield i, j, x_i, x[j].astype(np.float64)
