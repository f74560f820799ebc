"""Bytes on their way from one place to another, hashed as they pass; and files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from pipelines.errors import StoreError
from pipelines.runs.manifest import FileEntry

CHUNK = 1 << 20
LEFTOVER = ".tmp"


class Hashed:
    """A file of which no more can be done than to read it, or to write it, from its beginning to its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._size, self._hash = file, 0, sha256()

    def read(self, amount: int = -1) -> bytes:
        """The next bytes."""
        return self._passed(self._file.read(amount))

    def write(self, content: bytes) -> int:
        """Write what comes next."""
        self._file.write(self._passed(content))
        return len(content)

    @property
    def entry(self) -> FileEntry:
        """What has passed so far."""
        return FileEntry(self._size, self._hash.hexdigest())

    def _passed(self, content: bytes) -> bytes:
        self._size += len(content)
        self._hash.update(content)
        return content


def copy(source: Hashed | BinaryIO, target: Hashed | BinaryIO) -> None:
    """All that is left of `source`."""
    while chunk := source.read(CHUNK):
        target.write(chunk)


def describe(entry: FileEntry) -> str:
    """As a part of a sentence."""
    return f"{entry.size} bytes with SHA-256 {entry.sha256[:12]}.."


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A path beside `target` for the block to write; removed afterwards, if it is still there."""
    building = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}{LEFTOVER}")
    try:
        yield building
    finally:
        building.unlink(missing_ok=True)


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """The same, but that it is renamed to `target` if the block ends without an error."""
    with beside(target) as building:
        yield building
        sync(building)
        building.replace(target)


@contextmanager
def disk_errors(failed: str) -> Iterator[None]:
    """Errors of the file system as StoreError; `failed` says what could not be done, and to what."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{failed}: {error.strerror or error}. Make room or mend that, then try again") from error


def sync(path: Path) -> None:
    """Make a file's content, or the names in a folder, last beyond a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
