"""What a source of images is: a list of items, one picture per item, labels if there are any.

A new kind of source (an archive, a Parquet file, the CIFAR-10 or MNIST format) is one class that keeps `Source`, and
one line in `open_source`. A source that holds encoded images hands their bytes to `images.decode`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pipelines.params import Params

Shape = tuple[int, int, int]
"""Of one image: channels, height, width."""


class Unreadable(Exception):
    """One item cannot be used as an image. The message is the reason, without the item's name."""


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a source, before it is read."""

    name: str
    """Unique within the source and the same on every machine: for files the path below the root, with `/`."""
    label: int | None
    """Index into the source's `classes`; None if it has none."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One image, ready to be stored."""

    pixels: NDArray[np.uint8]
    """(C, H, W), contiguous, in 0..levels-1."""
    width: int
    """Of the stored image, before it is turned, resized and cropped."""
    height: int
    """As `width`."""
    mode: str
    """Pixel format of the stored image in Pillow's words: L, RGB, RGBA, P, CMYK, I;16 .."""


class Source(Protocol):
    """Images of one shape. Opening one lists the items and reads no pixels; `read` may be called from many threads."""

    @property
    def name(self) -> str:
        """As in `data.source` of params.yaml."""

    @property
    def shape(self) -> Shape:
        """Of every picture."""

    @property
    def levels(self) -> int:
        """Number of grey levels per channel: pixels are in 0..levels-1."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels, in an order that does not depend on the machine; empty if there are none."""

    @property
    def items(self) -> Sequence[Item]:
        """All entries, sorted by name."""

    @property
    def ignored(self) -> Mapping[str, int]:
        """What lies beside the images and is no image by its name: kind (a suffix) -> count."""

    def read(self, index: int) -> Picture:
        """The picture of `items[index]`.

        Raises:
            Unreadable: the item is damaged or is not an image.
        """


def open_source(params: Params) -> Source:
    """The source that params.yaml names.

    Raises:
        DataError: there are no images, or their labels are ambiguous.
        ParamsError: the `prepare` section asks for something that this source cannot give.
    """
    match params.data.source:
        case "digits":
            from pipelines.data.digits import open_digits

            return open_digits(params.prepare)
        case "folder":
            from pipelines.data.folder import open_folder

            return open_folder(params.data.path, params.prepare)
