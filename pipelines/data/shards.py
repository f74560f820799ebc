"""Shards: NumPy files of uint8 images (n, C, H, W), read by memory map.

Equal images give equal bytes on any machine: the images of a split are in the order of their ids, and a .npy file holds
nothing but type, shape and values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.data.manifest import Shard
from pipelines.data.npy import header
from pipelines.data.sources import Shape
from pipelines.data.split import SplitName
from pipelines.data.spool import Spool
from pipelines.errors import DataError

_BLOCK_BYTES = 16 * 2**20
"""Pixels held in memory at a time while a shard is written."""


def write_shards(folder: Path, split: SplitName, rows: Sequence[int], spool: Spool, shard_size: int) -> list[Shard]:
    """Write the spool's `rows`, in that order, as files of at most `shard_size` images: train-00000.npy .."""
    return [
        _write_shard(folder, f"{split}-{number:05d}.npy", split, rows[start : start + shard_size], spool)
        for number, start in enumerate(range(0, len(rows), shard_size))
    ]


def _write_shard(folder: Path, name: str, split: SplitName, rows: Sequence[int], spool: Spool) -> Shard:
    """Write one file, block by block, and hash it on the way."""
    checksum = sha256()
    with (folder / name).open("wb") as file:
        for content in _content(rows, spool):
            file.write(content)
            checksum.update(content)
    return Shard(name=name, split=split, count=len(rows), sha256=checksum.hexdigest())


def _content(rows: Sequence[int], spool: Spool) -> Iterator[bytes]:
    """The parts of a .npy file."""
    yield header(len(rows), spool.shape)
    block = max(1, _BLOCK_BYTES // int(np.prod(spool.shape)))
    for start in range(0, len(rows), block):
        yield spool.read(rows[start : start + block]).tobytes()


def open_shard(folder: Path, shard: Shard, shape: Shape) -> NDArray[np.uint8]:
    """The images of a shard, (n, C, H, W), as a read-only memory map.

    Raises:
        DataError: the file is missing, has another size or holds something else. Its content is not read: `verify` of
            `manifest.py` does that.
    """
    path = folder / shard.name
    remedy = "run `dvc repro --force prepare`"
    try:
        images: np.memmap[tuple[int, ...], np.dtype[np.uint8]] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path} is missing; {remedy}") from None
    except (ValueError, EOFError) as error:
        raise DataError(f"{path} is damaged ({error}); {remedy}") from None
    wanted = (shard.count, *shape)
    size = path.stat().st_size
    if images.dtype != np.uint8 or images.shape != wanted or size != images.offset + images.nbytes:
        raise DataError(
            f"{path} should hold uint8 {wanted}; it holds {images.dtype} {images.shape} in {size} bytes; {remedy}"
        )
    return images
