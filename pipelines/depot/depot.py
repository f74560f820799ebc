"""A place for files that are named by what they hold, and for small notes with names of their own.

    objects/3f/3f2a..         files, by their SHA-256: the same file in many folders is stored once
    notes/trees/9c41...json   what a folder holds (`tree.py`), put last: without it the folder is not there
    notes/jobs/7/spec.json    other notes

Files are never changed. What is read is compared with its SHA-256, so the depot need not be trusted
to keep bytes as they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipelines.depot.tree import check_name
from pipelines.errors import DataError
from pipelines.runs.manifest import FileEntry


@dataclass(frozen=True)
class Stored:
    """What is known of a file or note without reading it."""

    size: int
    """Bytes."""
    at: float
    """When it was written, in seconds since 1970."""


class Depot(Protocol):
    """It can be pickled: it holds an address and neither connections nor secrets.

    Every method may raise `StoreError` when the depot itself does not answer, which says nothing of what is in it.
    """

    @property
    def uri(self) -> str:
        """Its address, as `depot_at` takes it."""
        ...

    def has(self, entry: FileEntry) -> bool:
        """Whether such a file is there, by its name and size."""
        ...

    def put(self, path: Path, entry: FileEntry) -> None:
        """Store a file, unless it is there.

        Raises:
            DataError: it is not, or no longer, what `entry` says; it is not stored then.
        """
        ...

    def fetch(self, entry: FileEntry, target: Path) -> None:
        """Bring a file to `target`, whose folder is there. It appears there whole, or not at all.

        Raises:
            DataError: the file is missing in the depot, or damaged.
        """
        ...

    def discard(self, entry: FileEntry) -> None:
        """Remove a file that is damaged, so that it can be put anew. Does nothing where there is none."""
        ...

    def part(self, entry: FileEntry, start: int, length: int) -> bytes:
        """`length` bytes of a file from `start` on. They are compared with nothing.

        Raises:
            DataError: the file is missing in the depot, or ends before.
        """
        ...

    def note(self, name: str, content: bytes, *, new: bool = False) -> bool:
        """Leave a small file under a name; one of the same name is replaced, or left alone where it must be new.

        Returns:
            Whether this call wrote it: of several that ask for it to be new, one does.
        """
        ...

    def noted(self, name: str) -> bytes | None:
        """What stands under a name; None: nothing."""
        ...

    def notes(self, prefix: str) -> list[str]:
        """All names of notes that begin with `prefix`, sorted."""
        ...

    def stored(self, prefix: str) -> dict[str, Stored]:
        """All that is in it and whose name begins so (`objects/`, `notes/jobs/`), by name."""
        ...

    def remove(self, name: str) -> None:
        """Delete what `stored` tells of, for good. Does nothing where it is not there."""
        ...


def object_name(entry: FileEntry) -> str:
    """Where a file lies in a depot."""
    return f"objects/{entry.sha256[:2]}/{entry.sha256}"


def note_name(name: str) -> str:
    """Where a note lies in a depot.

    Raises:
        DataError: `name` is no path such as `jobs/7/spec.json`.
    """
    check_name(name)
    return f"notes/{name}"


def missing(where: str) -> DataError:
    """The error for a file that is not there."""
    return DataError(f"{where} is missing: it was never put there, or deleted. Run the stage that made it again")


class Damaged(DataError):
    """A file of a depot is not what its name says."""


def damaged(where: str, found: str, wanted: str) -> Damaged:
    """The error for a file that is not what its name says."""
    return Damaged(
        f"{where} is damaged: it has {found}, its name stands for {wanted}. Run the stage that made it again: what the "
        "depot lacks is put there anew"
    )
