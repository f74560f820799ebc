"""One process at a time works on a run.

The lock is `flock` on a file in the run's folder, so the kernel frees it when its holder dies, however it dies, and a
file that is left behind holds nothing. `dvc repro` that is stopped leaves its stage running: that stage keeps its lock,
and a second one is refused with the number of the first.

The lock belongs to this process alone. Programs that it starts (Ray's daemons and workers) do not inherit the
descriptor, and copies of the process (fork) close it: they may outlive their driver, and must not keep the run from the
next one.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from pipelines.errors import CheckpointError, RunLocked
from pipelines.runs.commit import make_folder

LOCK = "lock.json"

_held: set[int] = set()
"""Descriptors of this process's locks."""


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the run in `folder`, which is made if need be, for the length of the block.

    Raises:
        RunLocked: another process holds it; the message names its number, host, start time and command.
        CheckpointError: the folder's file system cannot lock, or cannot be written.
    """
    descriptor = _open(folder)
    _held.add(descriptor)
    try:
        _lock(descriptor, folder)
        _sign(descriptor)
        yield
    finally:
        if descriptor in _held:  # a forked copy has closed its own, and the number may be another file's by now
            _held.remove(descriptor)
            os.close(descriptor)


def _open(folder: Path) -> int:
    try:
        make_folder(folder)
        return os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise CheckpointError(f"the run's folder {folder} cannot be written: {error}") from error


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunLocked(f"the run in {folder} is being worked on by {_holder(descriptor)}") from None
    except OSError as error:
        raise CheckpointError(
            f"the run's folder {folder} cannot be locked: {error.strerror}. Set storage.uri in infra/cluster.yaml to a "
            "folder on a file system with flock"
        ) from error


def _sign(descriptor: int) -> None:
    """Leave word for the one who is refused."""
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": " ".join(sys.orig_argv),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, (json.dumps(holder, indent=2) + "\n").encode(), 0)


def _holder(descriptor: int) -> str:
    """The holder's words, as a part of a sentence with the remedy."""
    try:
        holder = json.loads(os.pread(descriptor, 1 << 16, 0))
        pid, host = holder["pid"], holder["host"]
        words = f"process {pid} on {host} since {holder['started']} ({holder['command']})"
    except (ValueError, KeyError, TypeError):  # it has locked the file and not signed it yet
        return "another process; try again in a moment"
    return f"{words}. Wait for it, or stop it with `kill {pid}` on {host}; then run the stage again"


def _close_in_copy() -> None:
    """Give up the locks that a fork has copied. The process that took them still holds them."""
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_copy)
