"""Prepared images as the other stages read them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines.data.manifest import Manifest, read_manifest
from pipelines.data.shards import open_shard
from pipelines.data.sources import Shape
from pipelines.data.split import SPLITS, SplitName
from pipelines.data.streamed import StreamedShard
from pipelines.data.table import read_rows
from pipelines.data.thin import origin_of
from pipelines.depot.shared import SharedFolder
from pipelines.errors import DataError


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """One split of the prepared images. Pixels stay on disk, or in the depot, until they are asked for.

    Sent to another process, it is opened anew there: folder and name travel, no pixels.
    """

    folder: Path | SharedFolder
    """As it was opened."""
    name: SplitName
    shape: Shape
    """Of one image: channels, height, width."""
    levels: int
    """Pixels are in 0..levels-1."""
    classes: list[str]
    """Names of the labels; empty if there are none."""
    ids: list[str]
    """SHA-256 (hex) of each image's content."""
    labels: NDArray[np.int64] | None
    """(n,) indices into `classes`; None if there are no labels."""
    shards: tuple[NDArray[np.uint8] | StreamedShard, ...]
    """Memory maps (n_k, C, H, W), or what is not on this machine yet; one after the other the images of the split."""

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, indices: ArrayLike) -> NDArray[np.uint8]:
        """The images at `indices`, in that order, as a fresh contiguous uint8 array (n, C, H, W).

        Raises:
            IndexError: an index is not in 0..len-1.
            ValueError: the indices are not a list of whole numbers.
            DataError, StoreError: images are not on this machine, and the depot lacks them or does not answer.
        """
        wanted = self._checked(indices)
        images = np.empty((len(wanted), *self.shape), np.uint8)
        shard_of = np.searchsorted(self._starts, wanted, side="right") - 1
        coming = []
        for k in np.unique(shard_of):
            here = shard_of == k
            shard, rows = self.shards[k], wanted[here] - self._starts[k]
            if isinstance(shard, StreamedShard):
                coming.append((here, shard.ask(rows)))
            else:
                images[here] = shard[rows]
        for here, pixels in coming:
            images[here] = pixels()
        return images

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """Index of each shard's first image."""
        return np.array([0, *accumulate(map(len, self.shards))][:-1] or [0], np.int64)

    def _checked(self, indices: ArrayLike) -> NDArray[np.int64]:
        wanted = np.asarray(indices)
        if wanted.ndim != 1 or (wanted.size and not np.issubdtype(wanted.dtype, np.integer)):
            raise ValueError(f"indices must be whole numbers (n,), got {wanted.dtype} {wanted.shape}")
        outside = wanted[(wanted < 0) | (wanted >= len(self))]
        if outside.size:
            raise IndexError(f"the {self.name} split has the images 0..{len(self) - 1}, got index {outside[0]}")
        return wanted.astype(np.int64)

    def __reduce__(self) -> tuple[Any, ...]:
        return open_split, (self.folder, self.name)


def open_split(where: Path | SharedFolder, name: SplitName) -> ImageSplit:
    """Open the split `name` of the images prepared in a folder.

    Raises:
        DataError: the manifest, the table or a shard is missing, of the wrong size or not of this format.
        StoreError: the folder is not on this machine, and the depot does not answer.
    """
    if name not in SPLITS:
        raise ValueError(f"the splits are {', '.join(SPLITS)}, got {name!r}")
    folder = where.here() if isinstance(where, SharedFolder) else where
    manifest = read_manifest(folder)
    rows = read_rows(folder, name)
    shards = _open_shards(folder, manifest, name, rows.ids)
    in_shards = sum(map(len, shards))
    if not len(rows.ids) == in_shards == manifest.counts[name]:
        raise DataError(
            f"{folder}: the {name} split should have {manifest.counts[name]} images; the table lists {len(rows.ids)} "
            f"and the shards hold {in_shards}. Run `dvc repro --force prepare`"
        )
    return ImageSplit(
        where, name, manifest.shape, manifest.levels, list(manifest.classes), rows.ids, rows.labels, shards
    )


def _open_shards(
    folder: Path, manifest: Manifest, name: SplitName, ids: list[str]
) -> tuple[NDArray[np.uint8] | StreamedShard, ...]:
    """Those of the split, from the folder where they are in it."""
    origin, start, opened = origin_of(folder), 0, list[NDArray[np.uint8] | StreamedShard]()
    for shard in manifest.shards:
        if shard.split != name:
            continue
        if origin is None or (folder / shard.name).exists():
            opened.append(open_shard(folder, shard, manifest.shape))
        else:
            opened.append(StreamedShard(origin, shard, manifest.shape, ids[start : start + shard.count]))
        start += shard.count
    return tuple(opened)
