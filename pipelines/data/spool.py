"""Pixels on disk while the images are being read, since their order is known only when all of them are.

The file has no name: it is gone when it is closed, and when the process is killed.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from pipelines.data.sources import Shape


class Spool:
    """Images of one shape, appended one by one and read back in any order. Holds none of them in memory."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        """`folder` is where the file takes its space: one byte per pixel and channel."""
        self.shape = shape
        self.count = 0
        self._bytes = math.prod(shape)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by __exit__)

    def append(self, pixels: NDArray[np.uint8]) -> int:
        """Keep one image; returns its row."""
        if pixels.dtype != np.uint8 or pixels.shape != self.shape:
            raise ValueError(f"images must be uint8 {self.shape}, got {pixels.dtype} {pixels.shape}")
        self._file.seek(self.count * self._bytes)
        self._file.write(pixels.tobytes())
        self.count += 1
        return self.count - 1

    def read(self, rows: Sequence[int]) -> NDArray[np.uint8]:
        """The images of `rows` in that order, (n, C, H, W)."""
        images = np.empty((len(rows), *self.shape), np.uint8)
        for image, row in zip(images, rows, strict=True):
            self._file.seek(row * self._bytes)
            image[...] = np.frombuffer(self._file.read(self._bytes), np.uint8).reshape(self.shape)
        return images

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
