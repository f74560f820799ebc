"""Where a run's checkpoints are: what every kind of store can do.

A checkpoint is a set of files under one name, committed or not there: its manifest comes last and says what the other
files must be. How a store keeps that promise is its own affair: `local.py` renames a folder, `s3.py`, which cannot
rename, puts the manifest after the files.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pipelines.runs.holder import Lock
    from pipelines.runs.manifest import FileEntry


class Store(Protocol):
    """One run's place. It can be pickled: it holds an address and neither connections nor secrets.

    Every method may raise `StoreError`, a CheckpointError, when the store itself fails. That says nothing of a
    checkpoint, so nobody may take it for damage and go on without that checkpoint.
    """

    def __str__(self) -> str:
        """The run's place, for a person."""
        ...

    def place(self, name: str) -> str:
        """The place of the checkpoint `name`, for a person."""
        ...

    def names(self) -> list[str]:
        """What is there, in any order, whole or damaged; other names than those of checkpoints may be among them."""
        ...

    def read(self, name: str, file: str) -> bytes:
        """The content of a file.

        Raises:
            CheckpointError: it is missing or damaged; the message leaves the checkpoint to the caller.
        """
        ...

    def measure(self, name: str, file: str) -> FileEntry:
        """Size and digest of a file as it is, read to its end but not held in memory.

        Raises:
            CheckpointError: as for `read`.
        """
        ...

    def begin(self, name: str) -> None:
        """Get ready to save `name`: make the run's place if need be, and `sweep`."""
        ...

    def commit(self, name: str, files: Iterable[tuple[str, bytes]], facts: dict[str, Any]) -> None:
        """Write `files` (file name, content), one at a time, and then the manifest that commits them.

        What stands under the name must be damaged: it is replaced.

        Raises:
            CheckpointError: it could not be written; what was committed before is as it was.
            RunLocked: this process held the run and has lost it (`lock.py`); nothing was written since.
        """
        ...

    def note(self, name: str, content: bytes) -> None:
        """Leave a small file beside the checkpoints, for people; one of the same name is replaced.

        Raises:
            CheckpointError: it could not be written.
            RunLocked: as for `commit`.
        """
        ...

    def remove(self, name: str) -> None:
        """Remove a checkpoint so that no half of it is ever seen."""
        ...

    def sweep(self) -> None:
        """Remove what killed processes left of unfinished saves; never what this process is saving."""
        ...

    def free(self) -> int | None:
        """Free bytes; None where nobody can say."""
        ...

    def saved_at(self, name: str) -> int:
        """When a checkpoint was committed, in nanoseconds by the store's clock; 0 if it has no manifest."""
        ...

    def lock(self, lock: Lock, wait_s: float) -> AbstractContextManager[None]:
        """Hold a lock of the run for the length of the block, see `lock.py`."""
        ...
