"""Where a worker is, told every second from a thread of its own; the answer says whether it should stop.

The thread looks at the stack of the training thread, so that nothing in a step has to report itself. A process that is
frozen tells nothing; one that hangs goes on telling the same place. Both are seen from the other end (`watchdog.py`).
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

EVERY_S = 1.0
"""Seconds between two beats; a new step is told at once, at most 20 times a second."""
_LOOK_S = 0.05
_OURS = Path(__file__).resolve().parents[2]
_THEIR_MEETINGS = ("/torch/distributed/", "/torch/nn/parallel/", "/ray/train/v2/_internal/execution/collective_impl.py")
"""Code of torch and Ray Train that exchanges messages with other workers."""
_MEETINGS = (
    "diffusion/training/messages.py",
    "diffusion/training/overlap.py",
    "diffusion/training/reduction.py:Fast.",
    "diffusion/training/tree.py",
    "pipelines/depot/cache.py",
    "pipelines/depot/ref.py",
    "pipelines/runs/flock.py",
    "pipelines/runs/lease.py",
)
"""Files and classes of this project that exchange messages with other workers, or wait for who was there before, or for
what a depot sends, which has time limits of its own. The messages of `Fast` come and go within its backward pass, with
no frame of their own."""


@dataclass(frozen=True)
class Beat:
    """Where a worker is."""

    rank: int
    pid: int
    node: str
    """Ray's name of its machine."""
    step: int
    """Updates done."""
    doing: str
    """Function, file and line of this project in which the training thread is."""
    waiting: bool
    """Whether it waits for other workers there."""


Send = Callable[[Beat], str | None]
"""Delivers a beat; the answer is why the worker should stop, if it should. May fail: the next beat tries again."""


class Pulse:
    """Of one worker. The training thread keeps `step` up to date and reads `stop`; neither waits."""

    def __init__(self) -> None:
        self.step = 0
        self.stop: str | None = None
        """Why this worker should stop; None while it should go on."""

    @contextmanager
    def beating(self, rank: int, node: str, send: Send) -> Iterator[None]:
        """Tell of the thread that enters the block, until it leaves it."""
        end, training = threading.Event(), threading.get_ident()

        def beat() -> None:
            told, waited = -1, EVERY_S
            while not end.is_set():
                if self.step != told or waited >= EVERY_S:
                    told, waited = self.step, 0.0
                    self._send(training, rank, node, send)
                end.wait(_LOOK_S)
                waited += _LOOK_S

        thread = threading.Thread(target=beat, name="pulse", daemon=True)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join(EVERY_S)

    def _send(self, training: int, rank: int, node: str, send: Send) -> None:
        doing, waiting = place_of(sys._current_frames().get(training))
        try:
            answer = send(Beat(rank, os.getpid(), node, self.step, doing, waiting))
        except Exception:  # the other end is away for a moment, or for good: training does not depend on it
            return
        self.stop = self.stop or answer


def place_of(frame: FrameType | None) -> tuple[str, bool]:
    """The innermost place in this project's code, and whether that is waiting for other processes."""
    waiting = False
    while frame is not None:
        file = frame.f_code.co_filename
        waiting = waiting or any(each in file for each in _THEIR_MEETINGS)
        if file.startswith(str(_OURS)) and ".venv" not in file:
            name = Path(file).relative_to(_OURS).as_posix()
            meeting = f"{name}:{frame.f_code.co_qualname}".startswith(_MEETINGS)
            return f"{frame.f_code.co_name} ({name}:{frame.f_lineno})", waiting or meeting
        frame = frame.f_back
    return "nowhere", waiting
