"""A table of small images on a page, each pixel of them a whole number of the page's pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.report.pictures.canvas import INK, QUIET, WIDTH_PX, page

Bytes = NDArray[np.uint8]

_MARGIN = 30
_GAP = 6
_LARGEST = 256
"""Side in page pixels beyond which an image is shown reduced."""


@dataclass(frozen=True)
class Table:
    """Images in rows and columns, with a title and captions."""

    title: str
    subtitle: str
    images: Bytes
    """(rows, columns, H, W, 3), 0..255."""
    columns: list[str] = field(default_factory=list)
    """A caption above each column, of one or two lines; empty for none."""
    captions: list[str] = field(default_factory=list)
    """A caption below each image in reading order; empty for none."""
    count: int | None = None
    """Number of images if the last row is not full."""


def from_levels(images: NDArray[np.generic], levels: int) -> Bytes:
    """(..., C, H, W) in 0..levels-1 -> (..., H, W, 3) in 0..255."""
    return _colour(np.rint(images.astype(np.float64) * (255 / (levels - 1))))


def from_unit(images: NDArray[np.generic]) -> Bytes:
    """(..., C, H, W) in [-1, 1] (beyond it is cut off) -> (..., H, W, 3) in 0..255."""
    return _colour(np.rint((images.astype(np.float64).clip(-1, 1) + 1) * 127.5))


def _colour(images: NDArray[np.float64]) -> Bytes:
    last = np.moveaxis(images, -3, -1).astype(np.uint8)
    return np.repeat(last, 3, axis=-1) if last.shape[-1] == 1 else last


def columns_for(count: int, side: int) -> int:
    """Columns of a grid of `count` images of this side in pixels: wide rows, images at least 96 page pixels high."""
    fitting = max(1, (WIDTH_PX - 2 * _MARGIN) // max(96, min(side, _LARGEST)))
    return min(count, fitting, 8 if count <= 16 else 16)


def in_rows(images: Bytes, columns: int) -> Bytes:
    """(n, H, W, 3) -> (rows, columns, H, W, 3), the last row filled up with white."""
    n, *shape = images.shape
    rows = -(-n // columns)
    filled = np.full((rows * columns, *shape), 255, np.uint8)
    filled[:n] = images
    return filled.reshape(rows, columns, *shape)


def draw(table: Table, path: Path) -> None:
    """Write the table as a PNG."""
    rows, columns = table.images.shape[:2]
    wanted = (WIDTH_PX - 2 * _MARGIN - (columns - 1) * _GAP) // columns
    images = _resized(table.images, min(wanted, _LARGEST))
    h, w = images.shape[2:4]
    top = 112 + 34 * max((c.count("\n") + 1 for c in table.columns), default=0)
    below = 34 if table.captions else 0
    step_x, step_y = w + _GAP, h + _GAP + below
    height = top + rows * step_y + _MARGIN

    with page(path, height, layout=None) as figure:

        def write(x: float, y: float, text: str, size: float, colour: str = INK, **style: Any) -> None:
            figure.text(x / WIDTH_PX, 1 - y / height, text, fontsize=size, color=colour, **style)

        write(_MARGIN, 48, table.title, 12, fontweight="bold")
        write(_MARGIN, 86, table.subtitle, 9.5, QUIET)
        for j, text in enumerate(table.columns):
            write(_MARGIN + j * step_x + w / 2, top - 12, text, 9, ha="center", linespacing=1.35)
        for k in range(table.count or rows * columns):
            i, j = divmod(k, columns)
            x, y = _MARGIN + j * step_x, top + i * step_y
            figure.figimage(images[i, j], x, height - y - h)
            if table.captions:
                write(x + w / 2, y + h + 28, table.captions[k], 8.5, ha="center")


def _resized(images: Bytes, side: int) -> Bytes:
    """Images (..., H, W, 3) with pixels repeated, or averaged in blocks, to at most `side` pixels."""
    H, W = images.shape[-3:-1]
    if (k := side // max(H, W)) >= 1:
        return images.repeat(k, axis=-3).repeat(k, axis=-2)
    k = -(-max(H, W) // side)
    cut = images[..., : H // k * k, : W // k * k, :]
    blocks = cut.reshape(*cut.shape[:-3], H // k, k, W // k, k, 3)
    means: Bytes = np.rint(blocks.mean(axis=(-4, -2))).astype(np.uint8)
    return means
