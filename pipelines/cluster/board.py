"""The board: a small Ray actor between the workers, who write on it without waiting, and the driver, who reads it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from pipelines.cluster.events import Advanced, Event, Saved, Started, Stopped, Tell
from pipelines.cluster.pulse import Beat

SHOW_EVERY_S = 0.25
"""How often a worker says where it is, and how often the driver looks."""


@dataclass(frozen=True)
class Sign:
    """The last sign of life of a worker. Ages are by the board's own clock, which no change of the time moves."""

    beat: Beat
    heard_s: float
    """Seconds since it came."""
    moved_s: float
    """Seconds since the worker was elsewhere."""


@dataclass(frozen=True)
class Report:
    """How an attempt stands, or ended."""

    failure: str | None
    """Why training cannot go on, whatever the number of attempts."""
    started: bool
    """Whether the workers met."""
    saved: int | None
    """Step of the newest checkpoint of this attempt."""
    stopped: Stopped | None
    signs: dict[int, Sign]
    """By rank."""

    @property
    def step(self) -> int | None:
        """The update, from 1, in which the workers are; None before they have met."""
        steps = [sign.beat.step + 1 for sign in self.signs.values()]
        return max(steps) if self.started and steps else None

    def where(self, rank: int) -> str:
        """The update in which a worker is, for a person."""
        sign = self.signs.get(rank)
        return f"in step {sign.beat.step + 1}" if self.started and sign else "before its first step"


NOTHING_KNOWN = Report(None, started=False, saved=None, stopped=None, signs={})
"""Of an attempt that has just begun."""


class Board:
    """Runs in its own process."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._failure: str | None = None
        self._stop: str | None = None
        self.begin()

    def begin(self) -> None:
        """Another attempt: forget what the workers of the last one said of themselves."""
        self._started = False
        self._stopped: Stopped | None = None
        self._saved: int | None = None
        self._beats: dict[int, tuple[Beat, float, float]] = {}

    def post(self, event: Event) -> None:
        """Append an event."""
        self._events.append(event)
        match event:
            case Started():
                self._started, self._beats = True, {}
            case Saved(step):
                self._saved = step
            case Stopped():
                self._stopped = event

    def take(self) -> list[Event]:
        """The events since the last call."""
        events, self._events = self._events, []
        return events

    def fail(self, message: str) -> None:
        """Say why training cannot go on; the first reason stays."""
        self._failure = self._failure or message

    def failure(self) -> str | None:
        """Why training cannot go on."""
        return self._failure

    def stop(self, reason: str) -> None:
        """Ask all workers to stop after the same step."""
        self._stop = self._stop or reason

    def beat(self, beat: Beat) -> str | None:
        """Note where a worker is; the answer is why it should stop, if it should."""
        now = time.monotonic()
        last = self._beats.get(beat.rank)
        moved = last[2] if last and last[0] == beat else now
        self._beats[beat.rank] = (beat, now, moved)
        return self._stop

    def forget(self, rank: int) -> None:
        """A worker has ended."""
        self._beats.pop(rank, None)

    def report(self) -> Report:
        """How the attempt stands."""
        now = time.monotonic()
        signs = {rank: Sign(beat, now - heard, now - moved) for rank, (beat, heard, moved) in self._beats.items()}
        return Report(self._failure, self._started, self._saved, self._stopped, signs)


def start_board(ray: ModuleType) -> Any:
    """A board on the driver's node, so that losing another node does not lose it. It ends with its last handle."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Board).remote()


class Teller:
    """The worker's end: passes events on without waiting, and of the steps only some."""

    def __init__(self, board: Any) -> None:
        self._board = board
        self._said_at = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Advanced):
            now = time.monotonic()
            if now - self._said_at < SHOW_EVERY_S:
                return
            self._said_at = now
        self._board.post.remote(event)


class Listening:
    """What the block of `listening` can see of it."""

    error: BaseException | None = None
    """What ended it before its time."""


@contextmanager
def listening(ray: ModuleType, board: Any, hear: Tell, looks: Sequence[Callable[[], None]] = ()) -> Iterator[Listening]:
    """For the length of the block, and until all is heard, call `hear` with each event, from a thread.

    Between two looks at the board the thread calls each of `looks`. An error in any of them ends the listening. The
    block can see it; at its end it is raised, unless the block raises itself.
    """
    done, listening = threading.Event(), Listening()

    def listen() -> None:
        try:
            while True:
                last = done.wait(SHOW_EVERY_S)
                for event in ray.get(board.take.remote()):
                    hear(event)
                if last:
                    return
                for look in looks:
                    look()
        except BaseException as error:
            listening.error = error

    thread = threading.Thread(target=listen, name="board", daemon=True)
    thread.start()
    try:
        yield listening
    finally:
        done.set()
        thread.join()
    if listening.error:
        raise listening.error
