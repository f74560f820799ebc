"""A run in a folder of a file system that all workers see: every checkpoint is a folder in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

from pipelines.errors import CheckpointError
from pipelines.runs.commit import commit, disk_errors, make_folder, remove, sweep
from pipelines.runs.flock import hold
from pipelines.runs.holder import Lock
from pipelines.runs.manifest import MANIFEST, FileEntry, missing


@dataclass(frozen=True)
class LocalStore:
    """A `Store` in a folder. Committed by renaming, locked by flock."""

    folder: Path
    """The run's folder; it may not exist yet."""

    def __str__(self) -> str:
        return str(self.folder)

    def place(self, name: str) -> str:
        """The checkpoint's folder."""
        return str(self.folder / name)

    def names(self) -> list[str]:
        """All names in the folder."""
        return [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []

    def read(self, name: str, file: str) -> bytes:
        """The file's content. What the disk does not give back counts as damage."""
        with _reading(file):
            return (self.folder / name / file).read_bytes()

    def measure(self, name: str, file: str) -> FileEntry:
        """The file's size and digest."""
        with _reading(file), (self.folder / name / file).open("rb") as content:
            return FileEntry(os.fstat(content.fileno()).st_size, file_digest(content, "sha256").hexdigest())

    def begin(self, name: str) -> None:
        """Make the folder, and remove leftovers so that a full disk has room again."""
        with disk_errors(self.folder / name):
            make_folder(self.folder)
            sweep(self.folder)

    def commit(self, name: str, files: Iterable[tuple[str, bytes]], facts: dict[str, Any]) -> None:
        """See `commit.py`."""
        commit(self.folder / name, files, facts)

    def note(self, name: str, content: bytes) -> None:
        """A plain file."""
        with disk_errors(self.folder / name):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(content)

    def remove(self, name: str) -> None:
        """Rename, then remove."""
        with disk_errors(self.folder / name):
            remove(self.folder / name)

    def sweep(self) -> None:
        """Remove folders under temporary names."""
        sweep(self.folder)

    def free(self) -> int | None:
        """Free bytes of the disk."""
        with disk_errors(self.folder):
            return shutil.disk_usage(self.folder).free

    def saved_at(self, name: str) -> int:
        """The time of the manifest."""
        try:
            return (self.folder / name / MANIFEST).stat().st_mtime_ns
        except OSError:
            return 0

    def lock(self, lock: Lock, wait_s: float) -> AbstractContextManager[None]:
        """See `flock.py`."""
        return hold(self.folder, lock, wait_s)


@contextmanager
def _reading(file: str) -> Iterator[None]:
    """File system errors as CheckpointError."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise missing(file) from None
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}") from error
