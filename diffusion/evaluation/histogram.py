"""A yardstick for bits/dim: what images cost when every pixel is coded alone, by how often it takes each level."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class PixelHistograms:
    """How often each pixel takes each level in a set of images."""

    counts: NDArray[np.uint32]
    """(pixels, levels), pixels being the C H W values of one image."""

    @classmethod
    def of(cls, chunks: Iterable[Images], pixels: int, levels: int) -> PixelHistograms:
        """Count the images of all chunks, each uint8 (n, C, H, W) in 0..levels-1.

        Raises:
            ValueError: another number of pixels, or a level beyond the last.
        """
        counts = np.zeros((pixels, levels), dtype=np.uint32)
        for images in chunks:
            for row in _flat(images, pixels, levels):
                counts[np.arange(pixels), row] += 1  # each pixel occurs once in a row, so no count is lost
        return cls(counts)

    def bits_per_dim(self, images: Images) -> NDArray[np.float64]:
        """(n,): -log2 of each image's probability over its number of pixels.

        One is added to every count, so that a level never seen has a probability too (Laplace's rule).

        Raises:
            ValueError: another number of pixels, or a level beyond the last.
        """
        pixels, levels = self.counts.shape
        log_total = np.log2(float(self.counts[0].sum()) + levels)
        rows = _flat(images, pixels, levels)
        return np.array([log_total - np.log2(self.counts[np.arange(pixels), row] + 1.0).mean() for row in rows])


def _flat(images: Images, pixels: int, levels: int) -> Images:
    """(n, pixels)."""
    rows = images.reshape(len(images), -1)
    if rows.shape[1] != pixels:
        raise ValueError(f"images must have {pixels} values each, got {rows.shape[1]}")
    if rows.size and int(rows.max()) >= levels:
        raise ValueError(f"images must lie in 0..{levels - 1}, got {int(rows.max())}")
    return rows
