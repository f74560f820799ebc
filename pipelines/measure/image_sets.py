"""Sets of images that a person names: a folder of pictures, or what a stage left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffusion.training.random import numbers
from pipelines.data.dataset import ImageSplit, open_split
from pipelines.data.listing import list_files
from pipelines.data.manifest import MANIFEST
from pipelines.data.split import SPLITS
from pipelines.errors import DataError
from pipelines.measure.features import Chunk, Levels
from pipelines.measure.pictures import SUFFIXES
from pipelines.measure.sampling import CARD, SAMPLES, read_samples


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images in a random order, always the same: the first ones and the two halves are random choices."""

    name: str
    """As it was given."""
    count: int
    levels: int
    """Pixels are in 0..levels-1."""
    read: Callable[[range], Chunk]
    """A chunk of them."""
    ignored: str = ""
    """The other files in a folder, counted by suffix."""


def open_images(name: str) -> ImageSet:
    """A folder of pictures with all its sub-folders, `results/sample`, a `samples.npy`, or `results/prepare/test`.

    In a folder every file counts whose suffix is one of clean-fid's for images, in any capitals: clean-fid itself takes
    .PNG, .JPG and .JPEG, but not .Png or .BMP. It takes .npy files too, which are not taken from a folder here.

    Raises:
        DataError: there is nothing of the kind, or it holds no images.
    """
    path = Path(name)
    if path.is_file() and path.suffix == ".npy":
        beside = path.parent / CARD
        levels = read_samples(path.parent).card.levels if path.name == SAMPLES and beside.is_file() else 256
        return _of_array(name, _array(path), levels)
    if (path / CARD).is_file():
        drawn = read_samples(path)
        return _of_array(name, drawn.images, drawn.card.levels)
    for split in SPLITS:
        if path.name == split and (path.parent / MANIFEST).is_file():
            return _of_split(name, open_split(path.parent, split))
    if (path / MANIFEST).is_file():
        raise DataError(f"{name} holds prepared images: name a split of them, for example {path / 'test'}")
    if not path.is_dir():
        raise DataError(f"{name} is neither a folder of images nor a .npy file")
    return _of_folder(name, path)


def _of_folder(name: str, path: Path) -> ImageSet:
    listing = list_files(path, SUFFIXES)
    files, ignored = listing.files, ", ".join(f"{count} {kind}" for kind, count in sorted(listing.ignored.items()))
    if not files:
        raise DataError(f"{name} holds no images: they end in {' '.join(sorted(SUFFIXES))}")
    root, order = path.resolve(), _order(len(files))

    def read(part: range) -> Chunk:
        return [str(root / files[k]) for k in order[part.start : part.stop]]

    return ImageSet(name, len(files), 256, read, ignored)


def _of_split(name: str, images: ImageSplit) -> ImageSet:
    order = _order(len(images))
    return ImageSet(name, len(images), images.levels, lambda part: images.read(order[part.start : part.stop]))


def _of_array(name: str, images: Levels, levels: int) -> ImageSet:
    order = _order(len(images))
    return ImageSet(name, len(images), levels, lambda part: images[order[part.start : part.stop]])


def _array(path: Path) -> Levels:
    try:
        images: Levels = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise DataError(f"{path} holds {images.dtype} {images.shape}, wanted uint8 (n, C, H, W) with C of 1 or 3")
    return images


def _order(count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return numbers(0, "image-set-order").permutation(count)
