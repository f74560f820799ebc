"""Two trainings step in turn, one tracked and one not: what the machine does meanwhile, it does to both of them."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import psutil

from pipelines.params import load_params
from pipelines.tracking.run import stage_run
from pipelines.tracking.store import quiet_mlflow
from tests.pipelines.tracking.stepper import loss, settings_for

_PIECE = bytes(1 << 16)
_PROCESSES = multiprocessing.get_context("forkserver")
WORKERS = os.cpu_count() or 1
"""No core is free for whoever tracks."""


def some_work(pieces: int) -> float:
    """Seconds of one core, mostly outside of Python, as a step's are."""
    began = time.perf_counter()
    for _ in range(pieces):
        hashlib.sha256(_PIECE).digest()
    return time.perf_counter() - began


def pieces_of(seconds: float) -> int:
    """As many as take `seconds` on this machine."""
    return round(seconds * 100 / statistics.median(some_work(100) for _ in range(21)))


@dataclass(frozen=True)
class Cost:
    """Seconds of a tracked run."""

    tracked: list[float]
    """Of each turn: its steps, by the clock."""
    untracked: list[float]
    """Of the turns of the same steps without tracking."""
    calls: float
    """CPU of the median call of the tracker."""
    sender: float
    """CPU of the sender, all steps together."""

    @property
    def wall(self) -> float:
        """Time of the tracked steps in that of the untracked ones."""
        return sum(self.tracked) / sum(self.untracked)

    @property
    def uncertainty(self) -> float:
        """Standard error of `wall`, from the spread of neighbouring turns."""
        ratios = [a / b for a, b in zip(self.tracked, self.untracked, strict=True)]
        return statistics.stdev(ratios) / len(ratios) ** 0.5


def step_in_turn(project: Path, url: str, key: str, *, steps: int, turns: int, pieces: int) -> Cost:
    """What `steps` tracked steps of `pieces` on each core cost, told to the server at `url` as the run of `key`."""
    each = steps // turns
    with (
        _training(_tracked, turns, each, pieces, str(project), url, key) as tracked,
        _training(_untracked, turns, each, pieces) as untracked,
    ):
        walls: dict[_Training, list[float]] = {tracked: [], untracked: []}
        for turn in range(turns):
            for training in [tracked, untracked][:: 1 if turn % 2 else -1]:
                walls[training].append(training.turn())
        calls, sender = tracked.rest()
    return Cost(walls[tracked], walls[untracked], calls, sender)


@dataclass(frozen=True, eq=False)
class _Training:
    """A process group: a driver and its workers."""

    process: multiprocessing.process.BaseProcess
    pipe: Connection

    def turn(self) -> float:
        """Let it go on for its steps, and stop all of its threads behind them. The seconds that they took."""
        self.signal(signal.SIGCONT)
        self.pipe.send(None)
        seconds = self.pipe.recv()
        self.signal(signal.SIGSTOP)
        return seconds

    def rest(self) -> tuple[float, float]:
        """What it has to say at the end."""
        self.signal(signal.SIGCONT)
        self.pipe.send(None)
        return self.pipe.recv()

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)


@contextmanager
def _training(main: Callable[..., None], turns: int, steps: int, pieces: int, *args: str) -> Iterator[_Training]:
    ours, theirs = _PROCESSES.Pipe()
    process = _PROCESSES.Process(target=_drive, args=(theirs, main, turns, steps, pieces, *args))
    process.start()
    theirs.close()
    ours.recv()
    training = _Training(process, ours)
    try:
        training.signal(signal.SIGSTOP)
        yield training
        training.signal(signal.SIGCONT)
        process.join()
        assert process.exitcode == 0
    finally:
        with suppress(ProcessLookupError):
            training.signal(signal.SIGKILL)
        process.join()


def _drive(pipe: Connection, main: Callable[..., None], turns: int, steps: int, pieces: int, *args: str) -> None:
    """The driver: its workers step, each together with the others, and tell it so."""
    os.setpgrp()
    children = multiprocessing.get_context("fork")  # there are no threads yet
    together = children.Barrier(WORKERS)
    heard, told = children.Pipe(duplex=False)
    goes = [children.Pipe(duplex=False) for _ in range(WORKERS)]
    workers = [
        children.Process(target=_work, args=(go, told if rank == 0 else None, together, steps, pieces))
        for rank, (go, _) in enumerate(goes)
    ]
    for worker in workers:
        worker.start()

    def take_turns(step: Callable[[int], None]) -> None:
        pipe.send(None)
        for turn in range(turns):
            pipe.recv()
            for _, go in goes:
                go.send(True)
            for number in range(turn * steps, (turn + 1) * steps):
                heard.recv()
                step(number)
            pipe.send(heard.recv())

    main(pipe, take_turns, *args)
    for _, go in goes:
        go.send(False)
    for worker in workers:
        worker.join()


def _work(go: Connection, told: Connection | None, together: Barrier, steps: int, pieces: int) -> None:
    while go.recv():
        together.wait()
        began = time.perf_counter()
        for _ in range(steps):
            some_work(pieces)
            together.wait()
            if told:
                told.send(None)
        if told:
            told.send(time.perf_counter() - began)


def _untracked(pipe: Connection, take_turns: Callable[[Callable[[int], None]], None]) -> None:
    take_turns(lambda _: None)


def _tracked(
    pipe: Connection, take_turns: Callable[[Callable[[int], None]], None], project: str, url: str, key: str
) -> None:
    os.environ["DVC_ROOT"] = project
    settings = settings_for(url)
    quiet_mlflow(settings)  # takes seconds to load, in which a stage's workers start
    calls: list[float] = []
    with stage_run("train", load_params(Path(project) / "params.yaml"), settings, key=key) as tracker:
        (sender,) = (each.native_id for each in threading.enumerate() if each.name == "mlflow-sender")

        def step(number: int) -> None:
            began = time.thread_time()
            tracker.metrics(number, {"loss": loss(number)})
            calls.append(time.thread_time() - began)

        take_turns(step)
        used = {each.id: each.user_time + each.system_time for each in psutil.Process().threads()}
        pipe.recv()
        pipe.send((statistics.median(calls), used[sender]))
