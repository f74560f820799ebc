"""Watching a job from here as if it ran here: its lines, its bars, its end.

The end of a log is not the end of a job, nor is a connection that breaks: only the backend's word is.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pipelines.backends.backend import Backend, State, Status, Unreachable
from pipelines.errors import PipelineError
from pipelines.report.relayed import Relayed

_ASK_S = (0.2, 2.0)
"""Between two questions for a job's status, first and at most."""
_REST_S = 5.0
"""How long a log may take to bring the last lines of a job that has ended."""
_PATIENCE_S = 600.0
"""How long a backend may be silent."""
_LINE = 300
"""How much is said of why a job waits."""


class Detach(KeyboardInterrupt):
    """Ctrl-C or SIGTERM came."""


def follow(name: str, backend: Backend) -> Status:
    """Show a job until it has ended; how it ended.

    Raises:
        Detach: this process is asked to end.
        Unreachable: the backend was silent for 10 minutes.
    """
    with Relayed() as bars:
        log = _Log(name, backend, bars)
        thread = threading.Thread(target=log.read, name="log", daemon=True)
        try:
            with detaching():
                thread.start()
                status = _end_of(name, backend)
                log.over.set()
                thread.join(_REST_S)
        finally:
            log.close()
    return status


def read_again(name: str, backend: Backend) -> None:
    """Show all that a job has said which has ended."""
    with Relayed() as bars:
        log = _Log(name, backend, bars)
        log.over.set()
        log.read()


def _end_of(name: str, backend: Backend) -> Status:
    """How a job ended. MISSING counts as an end: its cluster is gone."""
    heard, told, waits, pause = time.monotonic(), False, "", _ASK_S[0]
    while True:
        try:
            status = backend.status(name)
            if told:
                print(f"{backend} answers again", file=sys.stderr, flush=True)
            heard, told, waits = time.monotonic(), False, _tell_why(name, status, waits)
            if status.state.ended or status.state is State.MISSING:
                return status
        except Unreachable as error:
            silent = time.monotonic() - heard
            if silent > _PATIENCE_S:
                raise Unreachable(f"{error}. Job {name} may go on: {COME_BACK}") from None
            if not told:
                told = True
                print(f"{error}. Trying again; job {name} is not touched by that", file=sys.stderr, flush=True)
        time.sleep(pause)
        pause = min(1.3 * pause, _ASK_S[1])


def _tell_why(name: str, status: Status, before: str) -> str:
    """Say what a job waits for, and that it waits no longer, where that is another thing than `before`; what it is."""
    now = status.message.partition("\n")[0][:_LINE] if status.state is State.WAITING else ""
    if now and now != before:
        print(f"job {name} waits: {now}", file=sys.stderr, flush=True)
    elif before and status.state is State.RUNNING:
        print(f"job {name} runs", file=sys.stderr, flush=True)
    return now


class _Log:
    """Prints what a job prints, each line once, over as many connections as it takes."""

    def __init__(self, name: str, backend: Backend, bars: Relayed) -> None:
        self._name = name
        self._backend = backend
        self._bars = bars
        self._read = 0
        self._rest = ""
        self.over = threading.Event()
        """The job has ended."""
        self._showing = threading.Lock()
        self._closed = threading.Event()

    def close(self) -> None:
        """Nobody waits for further lines: none is shown after this."""
        with self._showing:
            self._closed.set()
        self.over.set()

    def read(self) -> None:
        """Until the job has ended and its log, too."""
        while not self._closed.is_set():
            last = self.over.is_set()
            try:
                for piece in self._backend.logs(self._name, self._read):
                    if self._closed.is_set():
                        return
                    self._read += len(piece)
                    self._take(piece)
            except PipelineError:
                pass  # whether the job goes on is another question
            if last:
                break
            self.over.wait(_ASK_S[1])
        if self._rest:
            self._take("\n")

    def _take(self, piece: str) -> None:
        *lines, self._rest = (self._rest + piece).split("\n")
        for line in lines:
            with self._showing:
                if not self._closed.is_set() and not self._bars.show(line):
                    print(line, flush=True)


@contextmanager
def detaching() -> Iterator[None]:
    """Ctrl-C and SIGTERM leave the block by `Detach`."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise Detach

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


COME_BACK = "run the same command again to come back to it"
