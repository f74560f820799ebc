"""What became of processes that others have started."""

from __future__ import annotations

import time
from contextlib import suppress

import psutil


def is_gone(number: int) -> bool:
    """Whether a process has ended, or does within five seconds, be its parent told of it or not."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(number)
        end = time.monotonic() + 5
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
    return True


def working_in(part: str) -> list[psutil.Process]:
    """Those whose folder has `part` in its path."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if part in process.cwd():
                found.append(process)
    return found
