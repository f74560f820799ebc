"""A run in a folder of a file system that all workers see: every checkpoint is a folder in it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

from pipelines.errors import CheckpointError, StoreError
from pipelines.runs.commit import commit, disk_errors, make_folder, remove, sweep
from pipelines.runs.flock import hold
from pipelines.runs.holder import Lock
from pipelines.runs.manifest import MANIFEST, FileEntry, missing

_ABSENT = (FileNotFoundError, NotADirectoryError)
_DAMAGE = {"EIO", "EUCLEAN", "EBADMSG", "EISDIR"}
"""What the system says of a file that is lost: its disk is unreadable or inconsistent, or it is no plain file."""


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
        try:
            return [path.name for path in self.folder.iterdir()]
        except _ABSENT:
            return []
        except OSError as error:
            raise _unanswered(self.folder, error) from error

    def read(self, name: str, file: str) -> bytes:
        """The file's content."""
        with _reading(self.folder / name / file) as path:
            return path.read_bytes()

    def measure(self, name: str, file: str) -> FileEntry:
        """The file's size and digest."""
        with _reading(self.folder / name / file) as path, path.open("rb") as content:
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
        with disk_errors(self.folder):
            sweep(self.folder)

    def free(self) -> int | None:
        """Free bytes of the disk."""
        with disk_errors(self.folder):
            return shutil.disk_usage(self.folder).free

    def saved_at(self, name: str) -> int:
        """The time of the manifest."""
        path = self.folder / name / MANIFEST
        try:
            return path.stat().st_mtime_ns
        except _ABSENT:
            return 0
        except OSError as error:
            raise _unanswered(path, error) from error

    def lock(self, lock: Lock, wait_s: float) -> AbstractContextManager[None]:
        """See `flock.py`."""
        return hold(self.folder, lock, wait_s)


@contextmanager
def _reading(path: Path) -> Iterator[Path]:
    """Errors while a checkpoint's file is read, as what they say of it: that it is damaged, or nothing."""
    try:
        yield path
    except _ABSENT:
        raise missing(path.name) from None
    except OSError as error:
        if errno.errorcode.get(error.errno or 0) in _DAMAGE:
            raise CheckpointError(f"{path.name} cannot be read: {error.strerror}") from error
        raise _unanswered(path, error) from error


def _unanswered(path: Path, error: OSError) -> StoreError:
    """The error where the system does not say what is in `path`: no permission, too many open files, a server away."""
    return StoreError(
        f"{path} could not be read: {error.strerror}. Committed checkpoints are as they were; mend that, then run the "
        "stage again to go on from the newest"
    )
