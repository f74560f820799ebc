"""Being asked to stop: the first SIGTERM or Ctrl-C lets training end its step and save, the second ends it at once.

Whoever stops a job may signal each of its processes, some of which pass the signal on. So what comes together is one.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

TOGETHER_S = 1.0
"""Seconds between two signals that count as two."""


class Wish:
    """Whether somebody wants this process to stop."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._since = 0.0

    def __call__(self, reason: str) -> None:
        """Wish it."""
        if self.reason is None:
            self.reason, self._since = reason, time.monotonic()

    @property
    def age_s(self) -> float:
        """Seconds since it was wished; 0 where it was not."""
        return time.monotonic() - self._since if self.reason else 0.0


_NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}


@contextmanager
def stop_signals(wish: Wish) -> Iterator[None]:
    """For the block, SIGTERM and Ctrl-C are wishes; a second one interrupts. Elsewhere than in the main thread: none.

    To be entered after Ray was started: Ray takes SIGTERM for itself then, and ends the process with it.

    Raises:
        KeyboardInterrupt: a second signal came.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if wish.age_s > TOGETHER_S:
            raise KeyboardInterrupt
        wish(_NAMES[signal.Signals(number)])

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in _NAMES}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
