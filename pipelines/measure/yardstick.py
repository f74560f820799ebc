"""What images cost without a model: the numbers that a bound has to be below."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2

import numpy as np

from diffusion.evaluation import PixelHistograms
from pipelines.data.dataset import ImageSplit
from pipelines.measure.chunks import chunks

_READ_AT_ONCE = 1024


@dataclass(frozen=True)
class Yardstick:
    """In bits/dim, on the images whose bound is measured.

    Beside the bound of a density these are densities too: each level's probability is spread evenly over its bin.
    """

    uniform: float
    """Every level equally likely."""
    histogram: float
    """Every pixel alone, by its histogram in the training split with one added to each count."""


def yardstick(train: ImageSplit, measured: ImageSplit, count: int, *, density: bool = False) -> Yardstick:
    """Fit the histograms on `train`, apply them to the first `count` images of `measured`.

    Args:
        density: of images in [-1, 1], where a level's bin is 2 / (levels - 1) wide, instead of the probability.
    """
    pixels = int(np.prod(train.shape))
    parts = (train.read(np.array(part)) for part in chunks(len(train), _READ_AT_ONCE))
    histograms = PixelHistograms.of(parts, pixels, train.levels)
    bits = [histograms.bits_per_dim(measured.read(np.array(part))) for part in chunks(count, _READ_AT_ONCE)]
    wide = log2(2 / (train.levels - 1)) if density else 0.0
    return Yardstick(log2(train.levels) + wide, float(np.concatenate(bits).mean()) + wide)
