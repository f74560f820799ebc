"""Which images are trained on, watched and tested on: a function of each image's content alone.

An image's id is a hash of its pixels, which is as good as a random number, and the split is read off it. So an image
never changes sides when others are added or removed, when files are renamed, or from one machine to another; and
equal images are always on the same side. Test takes the low end of the ids and val the high end, so that changing one
fraction leaves the other split alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import DataError

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)

_DIGITS = 16
_RANGE = 16**_DIGITS


@dataclass(frozen=True)
class Fractions:
    """Expected shares of the images; the rest is trained on."""

    val: float
    """0..0.5"""
    test: float
    """0..0.5"""


def content_id(pixels: NDArray[np.uint8]) -> str:
    """SHA-256 (64 hexadecimal digits) of an image's shape and pixels, uint8 (C, H, W)."""
    shape = ",".join(map(str, pixels.shape))
    return sha256(shape.encode() + b":" + pixels.tobytes()).hexdigest()


def split_of(image_id: str, fractions: Fractions) -> SplitName:
    """The split of the image with this `content_id`; its first 64 bits are taken for a uniform number."""
    position = int(image_id[:_DIGITS], 16)
    if position < fractions.test * _RANGE:
        return "test"
    return "val" if _RANGE - 1 - position < fractions.val * _RANGE else "train"


def divide(image_ids: Iterable[str], fractions: Fractions) -> dict[SplitName, list[str]]:
    """The ids of each split, sorted: the order in which images are stored.

    Raises:
        DataError: a split that should hold images has none (no validation images is all right if none are asked for).
    """
    splits: dict[SplitName, list[str]] = {name: [] for name in SPLITS}
    for image_id in sorted(image_ids):
        splits[split_of(image_id, fractions)].append(image_id)
    wanted = {"train": 1.0, "val": fractions.val, "test": fractions.test}
    empty = [name for name, ids in splits.items() if wanted[name] > 0 and not ids]
    if empty:
        raise DataError(
            f"no images for {' and '.join(empty)}: {sum(map(len, splits.values()))} different images came out as "
            + ", ".join(f"{name} {len(ids)}" for name, ids in splits.items())
            + f" with prepare.val_fraction {fractions.val:g} and prepare.test_fraction {fractions.test:g}. "
            "Add images, or change the fractions"
        )
    return splits
