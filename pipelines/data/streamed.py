"""Images of a shard that is not on this machine yet.

Each is read with a request for its bytes, and is what it should be if its pixels have its id, which is a hash of them.
Meanwhile the whole folder is brought to this machine's cache; as soon as the shard is there it is read from there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.data.manifest import Shard
from pipelines.data.npy import header
from pipelines.data.shards import open_shard
from pipelines.data.sources import Shape
from pipelines.data.split import content_id
from pipelines.depot.bring import bring
from pipelines.depot.cache import arrived
from pipelines.depot.depot import object_name
from pipelines.depot.ref import Ref
from pipelines.errors import DataError

_AT_ONCE = 16
"""Requests on their way."""
_TRIES = 2
"""Of reading an image that comes damaged."""

Pixels = NDArray[np.uint8]


class StreamedShard:
    """One shard of a folder that is in a depot."""

    def __init__(self, origin: Ref, shard: Shard, shape: Shape, ids: Sequence[str]) -> None:
        """Args:
        origin: the whole folder.
        shard: which file of it.
        shape: of an image.
        ids: of the shard's images.
        """
        self._origin = origin
        self._shard = shard
        self._shape = shape
        self._ids = ids
        self._start = len(header(shard.count, shape))
        self._images: Pixels | None = None

    def __len__(self) -> int:
        return self._shard.count

    def ask(self, rows: NDArray[np.int64]) -> Callable[[], Pixels]:
        """Begin to read the images in these rows; what is returned waits for them, (n, C, H, W).

        Raises:
            DataError: an image is missing in the depot, or not the one that its id names.
            StoreError: the depot does not answer.
        """
        if (images := self._here()) is not None:
            return lambda: images[rows]
        neighbours = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
        asked = [_pool(os.getpid()).submit(self._read, int(run[0]), len(run)) for run in neighbours]
        return lambda: np.concatenate([each.result() for each in asked])

    def _here(self) -> Pixels | None:
        """The shard's memory map, once it is on this machine."""
        if self._images is None:
            if path := arrived(self._origin.digest, self._shard.name):
                self._images = self._opened(path)
            else:
                bring(self._origin)
        return self._images

    def _opened(self, path: Path) -> Pixels:
        try:
            return open_shard(path.parent, self._shard, self._shape)
        except DataError:
            renamed = arrived(self._origin.digest, self._shard.name)
            if renamed is None or renamed == path:
                raise
            return open_shard(renamed.parent, self._shard, self._shape)

    def _read(self, first: int, count: int) -> Pixels:
        """Neighbouring images."""
        entry, size, ids = self._shard.entry(self._shape), prod(self._shape), self._ids[first : first + count]
        wrong: list[str] = []
        for _ in range(_TRIES):
            content = self._origin.depot.part(entry, self._start + first * size, count * size)
            images = np.frombuffer(content, np.uint8).reshape(count, *self._shape)
            wrong = [id_ for id_, image in zip(ids, images, strict=True) if content_id(image) != id_]
            if not wrong:
                return images
        raise DataError(
            f"{self._shard.name} in {self._origin.uri} is damaged: {len(wrong)} of the {count} images from {first} on "
            f"are not what their ids say, the first {wrong[0][:12]}..; delete {object_name(entry)} there, then run the "
            "stage that put it there again"
        )


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """A forked copy makes its own."""
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="streamed")
