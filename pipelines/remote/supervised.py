"""A process whose output is passed on, and which is ended when it counts nothing further for too long."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from pipelines.errors import TrainingError
from pipelines.report.relayed import decode

_GRACE_S = 60.0
"""Between asking a stalled process to end and ending it."""
_LOOK_S = 0.5
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Ended:
    """How it ended."""

    exit_status: int
    said: str
    """Its last line."""


def supervised(command: Sequence[str], folder: Path, environment: Mapping[str, str], stalled_after_s: float) -> Ended:
    """Run a command to its end. SIGTERM and SIGINT of this process are passed on to it.

    A command that counts nothing further (`report/relayed.py`) for `stalled_after_s` seconds is ended, and counts as
    failed. When this process is killed the command is asked to end, too.
    """
    with subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=_end_with_parent(),
    ) as process:
        watch = _Watch(process, stalled_after_s)
        with _passing_on(process):
            threading.Thread(target=watch.look, name="stalled", daemon=True).start()
            assert process.stdout
            for line in process.stdout:
                watch.hear(line)
                print(line, end="", flush=True)
            status = process.wait()
    if watch.stalled:
        print(watch.stalled, flush=True)
        return Ended(TrainingError.exit_status, watch.stalled)
    return Ended(status if status >= 0 else 128 - status, watch.said)


class _Watch:
    """Notes whether a process gets on."""

    def __init__(self, process: subprocess.Popen[str], limit_s: float) -> None:
        self._process = process
        self._limit_s = limit_s
        self._moved = time.monotonic()
        self._count: tuple[str, int] | None = None
        self.said = ""
        self.stalled = ""

    def hear(self, line: str) -> None:
        """A line that it printed."""
        told = decode(line)
        if told is None:
            self.said = line.strip() or self.said
        elif (count := (told[0].title, told[0].done)) != self._count:
            self._moved, self._count = time.monotonic(), count

    def look(self) -> None:
        """Until it has ended, or is ended."""
        while self._process.poll() is None:
            if time.monotonic() - self._moved > self._limit_s:
                self.stalled = self._describe()
                self._process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_GRACE_S)
                self._process.kill()
                return
            time.sleep(_LOOK_S)

    def _describe(self) -> str:
        where = f"{self._count[0]} stands at {self._count[1]}" if self._count else "it has counted nothing yet"
        return (
            f"the job has not got on for {self._limit_s / 60:g} minutes (jobs.stalled_after_min): {where}. It is ended;"
            " the same command starts another that goes on from the newest checkpoint"
        )


@contextmanager
def _passing_on(process: subprocess.Popen[str]) -> Iterator[None]:
    """Signals that ask this process to end, to that one. The stage takes two that come together for one: who stops a
    job may signal each of its processes by himself."""

    def handle(number: int, frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_with_parent() -> Callable[[], None] | None:
    """To be called in the new process: ask the kernel for SIGTERM when the process that started it is gone."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM) and None
