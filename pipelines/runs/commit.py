"""Writing a folder so that it is committed or not there.

It is written under a temporary name beside its own: each file is synced to the disk, the manifest comes last, the
folder is synced, renamed, and its parent synced. A process or machine that dies at any moment leaves either nothing
under the folder's name, or all of it.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.errors import CheckpointError
from pipelines.runs.manifest import MANIFEST, FileEntry, Manifest

_LEFTOVER = ".tmp"

_building: set[Path] = set()
"""What this process is writing now, perhaps in another thread."""


def commit(folder: Path, files: Iterable[tuple[str, bytes]], facts: dict[str, Any]) -> None:
    """Write `files` (name, content) and their manifest to `folder`, whole or not at all.

    `files` may be a generator, so that one file at a time is in memory. What stands at `folder` must be damaged: it is
    put aside and removed.

    Raises:
        CheckpointError: the disk is full or refuses; nothing is left under the folder's name.
    """
    building, aside = _leftover_name(folder), _leftover_name(folder)
    _building.add(building)
    try:
        with disk_errors(folder):
            building.mkdir()
            entries = {name: _write(building / name, content) for name, content in files}
            _write(building / MANIFEST, Manifest(facts, entries).encode())
            _sync_folder(building)
            if folder.exists():
                folder.rename(aside)
            building.rename(folder)
            _sync_folder(folder.parent)
    finally:
        shutil.rmtree(building, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)
        _building.discard(building)


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it that are missing, so that they last beyond a power failure."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def remove(folder: Path) -> None:
    """Remove a committed folder so that no half of it is ever seen under its name."""
    aside = _leftover_name(folder)
    folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def sweep(parent: Path) -> None:
    """Remove what killed processes left in `parent` under temporary names; not what this process is writing."""
    for path in parent.glob(f".*{_LEFTOVER}"):
        if path not in _building:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """File system errors while `folder` is written, as CheckpointError."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{folder} could not be written: {error}. Earlier checkpoints are as they were; make room or mend the "
            "disk, then run the stage again to go on from the newest"
        ) from error


def _write(path: Path, content: bytes) -> FileEntry:
    """A new file, synced. Its digest is that of the bytes in memory, so a disk that changes them is found out."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return FileEntry.of(content)


def _sync_folder(folder: Path) -> None:
    """Make the names in the folder last beyond a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _leftover_name(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.{secrets.token_hex(4)}{_LEFTOVER}")
