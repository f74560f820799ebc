"""One process at a time works on a run, and one process at a time writes its checkpoints.

The driver of a training holds `run_lock`. Its worker 0, which is another process and often on another host, holds
`writer_lock` while it trains: a driver that is killed frees the run at once, but its worker may live on for a while and
save once more, and the next driver's worker 0 must not write at the same time.

On a file system both are `flock` (`flock.py`), on S3 leases (`lease.py`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from pipelines.runs import lease
from pipelines.runs.holder import Lock
from pipelines.runs.store import Store

RUN = Lock("lock.json", "worked on", command=None)
WRITER = Lock("writer.lock", "written", command="worker 0 of a training")
"""Its holder's command line is Ray's and may carry Ray's passwords, so it is not told."""


def run_lock(run: Store, wait_s: float = 0) -> AbstractContextManager[None]:
    """Hold the run, whose place is made if need be, for the length of the block.

    Args:
        run: the run.
        wait_s: how long to wait for a process that holds it.

    Raises:
        RunLocked: another process holds it, still; the message names its number, host, start time and command.
        CheckpointError: the run's place cannot be locked or written.
    """
    return run.lock(RUN, wait_s)


def writer_lock(run: Store, wait_s: float) -> AbstractContextManager[None]:
    """Hold the right to write the run's checkpoints for the length of the block.

    Args:
        run: the run.
        wait_s: how long to wait for a writer that was there before.

    Raises:
        RunLocked: it is still there after that time.
        CheckpointError: as for `run_lock`.
    """
    return run.lock(WRITER, wait_s=wait_s)


def taken_over(run: Store) -> str | None:
    """By whom a lock of the run was taken over that this process holds; None where none was."""
    return lease.taken_over(str(run))


def refuse_if_lost(run: Store) -> None:
    """To be called before anything is written on the strength of a lock of the run that this process holds.

    Raises:
        RunLocked: it may be another's by now.
    """
    lease.refuse_if_lost(str(run))
