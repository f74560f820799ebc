"""What a training costs: noted at each checkpoint, so that a killed attempt loses only what must be done again."""

from __future__ import annotations

import time

from pipelines.cluster.events import Advanced, Event, Saved, Started
from pipelines.tracking.took import Took, note


class Costs:
    """Hears the events of a training and notes seconds, steps and workers under the run's key."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._workers = 1
        self._hardware = ""
        self._began: tuple[float, int] | None = None
        self._step = 0

    def hear(self, event: Event) -> None:
        """Note what was done since the last time."""
        match event:
            case Started(step, workers, device):
                self.close()
                self._workers, self._hardware, self._step = workers, device, step
                self._began = time.monotonic(), step
            case Advanced(step):
                self._step = step
            case Saved():
                self.close()
            case _:
                pass

    def close(self) -> None:
        """Note what is not noted yet."""
        if self._began is None or self._step <= self._began[1]:
            return
        now, (then, first) = time.monotonic(), self._began
        note("train", self._key, Took(now - then, self._workers, self._step - first, self._hardware))
        self._began = now, self._step
