"""scikit-learn's digits: 1,797 handwritten digits of 8x8 pixels, which come with the package.

A pixel is the number of dark points in a block of 4x4, hence 0..16: 17 levels, stored as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.data.sources import Item, Picture, Shape
from pipelines.errors import ParamsError
from pipelines.sections import PrepareParams

_SIDE = 8


@dataclass(frozen=True)
class Digits:
    """The digits as a `Source`."""

    images: NDArray[np.uint8]
    """(1797, 1, 8, 8), 0..16."""
    items: tuple[Item, ...]
    """Names are positions in scikit-learn's order: 0000 .. 1796."""
    name: str = "digits"
    shape: Shape = (1, _SIDE, _SIDE)
    levels: int = 17
    classes: tuple[str, ...] = tuple("0123456789")

    @property
    def ignored(self) -> dict[str, int]:
        return {}

    def read(self, index: int) -> Picture:
        return Picture(self.images[index], width=_SIDE, height=_SIDE, mode="L")


def open_digits(prepare: PrepareParams) -> Digits:
    """Load the digits.

    Raises:
        ParamsError: another size or colour is asked for; between 17 levels there is nothing to interpolate.
    """
    if prepare.image_size not in (None, _SIDE):
        raise ParamsError(f"prepare.image_size: digits are 8x8 and stay so, got {prepare.image_size}; set null")
    if prepare.channels != 1:
        raise ParamsError(f"prepare.channels: digits are grey, got {prepare.channels}; set 1")

    from sklearn.datasets import load_digits

    digits = load_digits()
    images = digits.images.astype(np.uint8)[:, None]
    items = tuple(Item(f"{i:04d}", int(label)) for i, label in enumerate(digits.target))
    return Digits(images, items)
