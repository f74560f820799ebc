"""A process whose output is passed on, and which is ended when it does not get on for too long."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from pipelines.errors import TrainingError
from pipelines.report.relayed import decode
from pipelines.tracking.refusals import redact

_GRACE_S = 120.0
"""Between asking a process to end and ending it; a training may need `ray.grace_s` of it. So long may also go on what a
process leaves behind."""
_REST_S = 5.0
"""For what was killed to be gone."""
_LOOK_S = 0.5
_LINES = 50
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Ended:
    """How it ended. Lines are without user names and passwords in addresses: they travel further than the log."""

    exit_status: int
    said: str
    """Its last line."""
    lines: tuple[str, ...] = ()
    """Its last 50 lines, without counts."""
    asked: bool = False
    """Whether a signal asked for its end."""


class Manner:
    """What is particular about a command. This: one process that saves on SIGTERM, and gets on when it counts."""

    heeds = True
    """Whether it is to end when this process is asked to."""
    stalled = (
        "the job has not got on for {minutes:g} minutes (jobs.stalled_after_min): {where}. It is ended; the same "
        "command starts another that goes on from the newest checkpoint"
    )
    """What is said when it is ended because it does not get on."""

    def ask(self, process: subprocess.Popen[str]) -> None:
        """Ask it to save and end."""
        process.terminate()

    def ask_on(self, process: subprocess.Popen[str]) -> None:
        """The same, of what it has started since; called again and again until it has ended."""

    def moved(self, process: subprocess.Popen[str]) -> bool:
        """Whether it has got on since the last call, besides what it counts."""
        return False


def supervised(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    stalled_after_s: float,
    manner: Manner | None = None,
) -> Ended:
    """Run a command to its end, in a session of its own. Who asks this process to end, by SIGTERM or SIGINT, asks it.

    A command that does not get on for `stalled_after_s` seconds is ended, and counts as failed. To get on is to count
    further (`report/relayed.py`), or what its `Manner` says. When this process is killed the command is asked to end,
    too.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=_in_new_process(),
    )
    watch = _Watch(process, stalled_after_s, manner or Manner())
    with _passing_on(watch.wish):
        watch.wait()
    if watch.stalled:
        print(watch.stalled, flush=True)
        return Ended(TrainingError.exit_status, watch.stalled)
    lines = tuple(redact(line) for line in list(watch.lines))
    status = -signal.SIGKILL if process.returncode is None else process.returncode
    return Ended(status if status >= 0 else 128 - status, lines[-1] if lines else "", lines, watch.wished)


class _Watch:
    """Passes on what a process says, notes whether it gets on, and sees to its end."""

    def __init__(self, process: subprocess.Popen[str], limit_s: float, manner: Manner) -> None:
        self._process = process
        self._limit_s = limit_s
        self._manner = manner
        self._moved = time.monotonic()
        self._count: tuple[str, int] | None = None
        self._asked = False
        self._reader = threading.Thread(target=self._read, name="output", daemon=True)
        self.lines: deque[str] = deque(maxlen=_LINES)
        self.wished = False
        self.stalled = ""

    def wish(self) -> None:
        """Somebody wants the process to end."""
        self.wished = True
        if self._manner.heeds:
            self._ask()

    def wait(self) -> None:
        """Until it has ended, or is ended, and with it all that writes to its output."""
        self._reader.start()
        end_by = float("inf")
        while not self._over():
            now = time.monotonic()
            if self._manner.moved(self._process):
                self._moved = now
            if self._process.returncode is not None:  # something that it has started goes on
                end_by = min(end_by, now + _GRACE_S)
                if not self._asked:
                    self._ask()
            elif now - self._moved > self._limit_s and not self.stalled:
                self.stalled, end_by = self._describe(), now + _GRACE_S
                self._ask()
            elif self._asked:
                self._manner.ask_on(self._process)
            if now > end_by:
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            if now > end_by + _REST_S:  # it left the session, and goes on
                return

    def _over(self) -> bool:
        """Whether it has ended; waits for that a little."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LOOK_S)
            self._reader.join(_LOOK_S)
            return not self._reader.is_alive()
        return False

    def _ask(self) -> None:
        self._asked = True
        with suppress(ProcessLookupError):
            self._manner.ask(self._process)

    def _read(self) -> None:
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                self._hear(line)
                print(line, end="", flush=True)

    def _hear(self, line: str) -> None:
        told = decode(line)
        if told is None:
            if stripped := line.strip():
                self.lines.append(stripped)
        elif (count := (told[0].title, told[0].done)) != self._count:
            self._moved, self._count = time.monotonic(), count

    def _describe(self) -> str:
        where = f"{self._count[0]} stands at {self._count[1]}" if self._count else "it has counted nothing yet"
        return self._manner.stalled.format(minutes=self._limit_s / 60, where=where)


@contextmanager
def _passing_on(wish: Callable[[], None]) -> Iterator[None]:
    """Signals that ask this process to end are wishes. The stage takes two that come together for one: who stops a job
    may signal each of its processes by himself."""

    def handle(number: int, frame: FrameType | None) -> None:
        wish()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_new_process() -> Callable[[], None]:
    """To be called there: ask the kernel for SIGTERM when the process that started it is gone, and heed Ctrl-C, which
    Ray blocks in all that it starts and a shell ignores in the background."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if prctl:
            prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return prepare
