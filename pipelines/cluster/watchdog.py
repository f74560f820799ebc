"""What the driver does about workers that do not come, or do not move."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

from pipelines.cluster.board import Report, Sign
from pipelines.cluster.events import Tell, Told
from pipelines.cluster.pulse import Beat
from pipelines.errors import TrainingError
from pipelines.settings import RaySettings

LOOK_EVERY_S = 1.0
SAY_EVERY_S = 30.0
"""Seconds between two messages on what is missing."""


class Watchdog:
    """Called often, from one thread: names a worker that hangs and ends its process, so that it is replaced."""

    def __init__(self, ray: ModuleType, report: Callable[[], Report], hear: Tell, settings: RaySettings) -> None:
        self._ray = ray
        self._report = report
        self._hear = hear
        self._limit = settings.hang_timeout_s
        self._next = 0.0
        self._ended: set[tuple[str, int]] = set()
        """By node: pods often have the same numbers."""

    def look(self) -> None:
        """Look at the workers, if it is time."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LOOK_EVERY_S
        report = self._report()
        for sign in hanging(report.signs, self._limit):
            process = (sign.beat.node, sign.beat.pid)
            if process not in self._ended:
                self._ended.add(process)
                self._hear(Told(describe(sign, report.where(sign.beat.rank))))
                self._end(sign.beat)

    def _end(self, beat: Beat) -> None:
        """Ray asks a worker to end itself, which one that is frozen does not do; so it is ended from beside it."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(beat.node, soft=False)
        self._ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(end_worker).remote(beat.pid)


def hanging(signs: Mapping[int, Sign], limit_s: float) -> list[Sign]:
    """The workers that are the reason why nothing moves: those that tell nothing; without such, those that are stuck.

    A worker that waits for the others is not one: they are. On a GPU a worker may wait for the others wherever it waits
    for its device, so that beside one that tells nothing nobody else is blamed.
    """
    in_order = [sign for _, sign in sorted(signs.items())]
    silent = [sign for sign in in_order if sign.heard_s > limit_s]
    return silent or [sign for sign in in_order if sign.moved_s > limit_s and not sign.beat.waiting]


def describe(sign: Sign, where: str) -> str:
    """For a person: which worker, where (`in step 3`), and what it does."""
    beat = sign.beat
    if sign.heard_s > 2 * LOOK_EVERY_S:
        what = f"has told nothing for {sign.heard_s:.0f} s (frozen, or its machine is gone)"
    else:
        what = f"has not moved for {sign.moved_s:.0f} s"
    return (
        f"worker {beat.rank} (process {beat.pid} on node {beat.node[:8]}) {what}: it hangs {where}, in {beat.doing}; "
        "its process is ended"
    )


def end_worker(pid: int) -> None:
    """kill -9 a worker of Ray on this machine; another process that has its number by now is left alone."""
    try:
        name = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return
    if name.startswith(b"ray::"):
        os.kill(pid, signal.SIGKILL)


class Waiting:
    """Called often, from one thread: while the workers are not there, says every 30 s what is missing.

    For a fixed number of workers Ray gives up by itself. For elastic ones it waits without end while there is no room
    for the least number, so that giving up is done here.
    """

    def __init__(
        self, ray: ModuleType, report: Callable[[], Report], hear: Tell, settings: RaySettings, workers: int
    ) -> None:
        self._ray = ray
        self._report = report
        self._hear = hear
        self._settings = settings
        self._workers = workers
        self._began = time.monotonic()
        self._next = self._began + SAY_EVERY_S
        self._there = False

    def look(self) -> None:
        """Say it, if it is time.

        Raises:
            TrainingError: there is no room for the least number of elastic workers, and the time is up.
        """
        if self._there or time.monotonic() < self._next:
            return
        self._next += SAY_EVERY_S
        self._there = self._report().started
        if not self._there:
            total, free = self._ray.cluster_resources(), self._ray.available_resources()
            self._give_up(total)
            self._hear(Told(self._line(total, free)))

    def _give_up(self, total: Mapping[str, float]) -> None:
        settings = self._settings
        if not isinstance(settings.workers, tuple) or time.monotonic() - self._began < settings.start_timeout_s:
            return
        if lacking(settings, settings.least_workers, total):
            raise TrainingError(
                f"{missing(settings, settings.least_workers, total, total)}, after {settings.start_timeout_s:g} s "
                "(ray.start_timeout_s). Lower ray.workers, or give the cluster more machines"
            )

    def _line(self, total: Mapping[str, float], free: Mapping[str, float]) -> str:
        waited, settings = time.monotonic() - self._began, self._settings
        return (
            f"waiting since {waited:.0f} s for {missing(settings, self._workers, total, free)}; giving up after "
            f"{settings.start_timeout_s:.0f} s (ray.start_timeout_s)"
        )


def lacking(settings: RaySettings, workers: int, there: Mapping[str, float]) -> dict[str, float]:
    """By kind, how much more than `there` the workers need."""
    each = {"CPU": settings.cpus_per_worker, "GPU": settings.gpus_per_worker}
    lacks = {kind: workers * amount - there.get(kind, 0) for kind, amount in each.items() if amount}
    return {kind: amount for kind, amount in lacks.items() if amount > 0}


def missing(settings: RaySettings, workers: int, total: Mapping[str, float], free: Mapping[str, float]) -> str:
    """What the workers need, what there is, and what lacks."""
    each = {"CPU": settings.cpus_per_worker, "GPU": settings.gpus_per_worker}
    needs = ", ".join(f"{workers * amount:g} {kind}" for kind, amount in each.items() if amount)
    there = ", ".join(
        f"{total.get(kind, 0):g} {kind} ({free.get(kind, 0):g} free)" for kind, amount in each.items() if amount
    )
    rest = ", ".join(f"{amount:g} {kind}" for kind, amount in lacking(settings, workers, free).items())
    tail = f"missing are {rest}" if rest else "all of it is free; the workers are starting"
    return f"{workers} workers, which need {needs}; Ray has {there}; {tail}"
