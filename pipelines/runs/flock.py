"""A lock on a file system: `flock` on a file in the run's folder.

The kernel frees it when its holder dies, however it dies, and a file that is left behind holds nothing. `dvc repro`
that is stopped leaves its stage running: that stage keeps its lock, and a second one is refused with the number of the
first.

The lock belongs to this process alone. Programs that it starts (Ray's daemons and workers) do not inherit the
descriptor, and copies of the process (fork) close it: they may outlive their driver, and must not keep the run from the
next one.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipelines.errors import CheckpointError
from pipelines.runs.commit import make_folder
from pipelines.runs.holder import Lock, holder, refusal, signature, tell

_POLL_S = 0.1

_held: set[int] = set()
"""Descriptors of this process's locks."""


@contextmanager
def hold(folder: Path, lock: Lock, wait_s: float) -> Iterator[None]:
    """Hold a lock of the run in `folder`, which is made if need be, for the length of the block.

    Raises:
        RunLocked: another process holds it, and still does after `wait_s` seconds.
        CheckpointError: the folder's file system cannot lock, or cannot be written.
    """
    descriptor = _open(folder, lock)
    _held.add(descriptor)
    try:
        _lock(descriptor, folder, lock, wait_s)
        _sign(descriptor, lock)
        yield
    finally:
        if descriptor in _held:  # a forked copy has closed its own, and the number may be another file's by now
            _held.remove(descriptor)
            os.close(descriptor)


def _open(folder: Path, lock: Lock) -> int:
    try:
        make_folder(folder)
        return os.open(folder / lock.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise CheckpointError(f"the run's folder {folder} cannot be written: {error}") from error


def _lock(descriptor: int, folder: Path, lock: Lock, wait_s: float) -> None:
    until, told = time.monotonic() + wait_s, False
    while not _taken(descriptor, folder):
        there = os.pread(descriptor, 1 << 16, 0)
        if time.monotonic() >= until:
            raise refusal(str(folder), lock, there)
        if not told:
            tell(f"waiting up to {wait_s:.0f} s for {holder(there)}, by which the run in {folder} is {lock.holding}")
            told = True
        time.sleep(_POLL_S)


def _taken(descriptor: int, folder: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise CheckpointError(
            f"the run's folder {folder} cannot be locked: {error.strerror}. Set storage.uri in infra/cluster.yaml to a "
            "folder on a file system with flock"
        ) from error
    return True


def _sign(descriptor: int, lock: Lock) -> None:
    """Leave word for the one who is refused."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, (json.dumps(signature(lock), indent=2) + "\n").encode(), 0)


def _close_in_copy() -> None:
    """Give up the locks that a fork has copied. The process that took them still holds them."""
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_copy)
