"""The board: a small Ray actor between the workers, who write on it without waiting, and the driver, who reads it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from pipelines.cluster.events import Advanced, Event

SHOW_EVERY_S = 0.25
"""How often a worker says where it is, and how often the driver looks."""


class Board:
    """Runs in its own process."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._failure: str | None = None

    def post(self, event: Event) -> None:
        """Append an event."""
        self._events.append(event)

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


@contextmanager
def listening(ray: ModuleType, board: Any, hear: Callable[[Event], None]) -> Iterator[None]:
    """For the length of the block, and until all is heard, call `hear` with each event, from a thread.

    An error in `hear` ends the listening and is raised at the end of the block, unless the block raises itself.
    """
    done, errors = threading.Event(), list[BaseException]()

    def listen() -> None:
        try:
            while True:
                last = done.wait(SHOW_EVERY_S)
                for event in ray.get(board.take.remote()):
                    hear(event)
                if last:
                    return
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=listen, name="board", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if errors:
        raise errors[0]
