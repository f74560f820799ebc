"""Trials on Ray: each is a task that holds a place on this machine while its `dvc repro` runs in its own process.

Ray hands out places alone. A trial's stages start a Ray of their own, or join the cluster that the settings name, as
they do without a sweep: one Ray inside the other's workers would share tokens, ports and the death of either.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.project import home, workspace
from pipelines.settings import Settings
from pipelines.sweeping.place import Place
from pipelines.tracking.run import SWEEP

_LOOK_S = 5.0


@dataclass(frozen=True)
class Width:
    """How much of the machine a trial takes."""

    workers: int | None
    """Of its stages; None where the settings name a cluster, whose width they say themselves."""
    at_once: int

    @classmethod
    def of(cls, settings: Settings, count: int, at_once: int | None, shards: int) -> Width:
        """So that trials times workers do not exceed the machine. On a cluster one trial at a time, unless asked.

        Args:
            shards: the smallest train.virtual_shards of the trials.

        Raises:
            TrainingError: not one trial fits.
        """
        from pipelines.cluster.parallel import nothing_fits

        ray = settings.ray
        if ray.address:
            return cls(None, at_once or 1)
        machine = Machine.here(settings)
        widths: Sequence[int]
        if ray.most_workers is None:
            wide, widths = min(at_once or count, count, machine.trials(1)), _powers_of_two(shards)
        else:
            wide, widths = 1, [*range(ray.most_workers, ray.least_workers - 1, -1)]
        workers = next((workers for workers in widths if 0 < wide <= machine.trials(workers)), 0)
        if not workers:
            least = ray.least_workers
            wanted = {"CPU": least * ray.cpus_per_worker, "GPU": least * ray.gpus_per_worker}
            raise nothing_fits("no trial fits this machine", wanted, {"CPU": machine.cores, "GPU": machine.gpus})
        return cls(workers, min(at_once or count, machine.trials(workers)))


@dataclass(frozen=True)
class Machine:
    """What trials share, as Ray will count it, and what each of their workers takes of it."""

    cores: int
    gpus: int
    cpus_per_worker: float
    gpus_per_worker: float

    @classmethod
    def here(cls, settings: Settings) -> Machine:
        """This one; with more cores than it has where the settings ask for so many workers."""
        ray, gpus = settings.ray, 0
        if ray.gpus_per_worker:
            import torch

            gpus = torch.cuda.device_count()
        cores = max(os.cpu_count() or 1, math.ceil((ray.most_workers or 0) * ray.cpus_per_worker))
        return cls(cores, gpus, ray.cpus_per_worker, ray.gpus_per_worker)

    def trials(self, workers: int) -> int:
        """How many of so many workers fit beside each other."""
        by_cores = int(self.cores / (workers * self.cpus_per_worker))
        gpus = whole_gpus(workers * self.gpus_per_worker)
        if not gpus:
            return by_cores
        return min(by_cores, self.gpus * int(1 / gpus) if gpus < 1 else self.gpus // int(gpus))


def whole_gpus(gpus: float) -> float:
    """What Ray takes for a trial: a part of one, or whole ones."""
    return gpus if gpus <= 1 else math.ceil(gpus)


def _powers_of_two(most: int) -> list[int]:
    """Up to `most`, the largest first."""
    return [1 << bits for bits in reversed(range(most.bit_length()))]


def environment(name: str, width: Width) -> dict[str, str]:
    """Of a trial's processes: this one's, before Ray adds to it, with the project that everything is kept in."""
    workers = {} if width.workers is None else {"PIPELINES__RAY__WORKERS": str(width.workers)}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "DVC_ROOT": str(home()), "PATH": path, SWEEP: name, **workers}


def run_all(
    places: Sequence[Place], settings: Settings, width: Width, variables: Mapping[str, str], look: Callable[[], None]
) -> list[int]:
    """Run the trials, each to its end; their exit statuses. One that fails does not stop the others.

    Args:
        variables: the environment of the trials.
        look: called every few seconds.

    Raises:
        KeyboardInterrupt: after all have saved and stopped.
    """
    from pipelines.cluster.session import ray_session

    own = settings.model_copy(update={"ray": settings.ray.model_copy(update={"address": None})})
    with ray_session(own) as ray, _terminated_as_interrupted():
        workers = width.workers or 0
        cpus, gpus = workers * settings.ray.cpus_per_worker, whole_gpus(workers * settings.ray.gpus_per_worker)
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(_kept)
        grace_s = settings.ray.grace_s + 15
        waiting = list(range(len(places)))
        running: dict[Any, int] = {}
        statuses = [1] * len(places)
        try:
            while waiting or running:
                while waiting and len(running) < width.at_once:
                    k = waiting.pop(0)
                    running[task.remote(str(places[k].folder), grace_s, str(workspace()), dict(variables))] = k
                done, _ = ray.wait(list(running), num_returns=1, timeout=_LOOK_S)
                for ref in done:
                    statuses[running.pop(ref)] = _status(ray, ref)
                look()
        except KeyboardInterrupt:
            print(f"stopping {len(running)} trials; they save their state", file=sys.stderr, flush=True)
            for ref in running:
                ray.cancel(ref, force=True)  # its keeper notices
            deadline = time.monotonic() + 2 * grace_s
            while not all(places[k].at_rest() for k in running.values()) and time.monotonic() < deadline:
                time.sleep(_LOOK_S / 10)
            raise
    return statuses


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM as Ctrl-C. To be entered after Ray was started: Ray takes SIGTERM for itself then."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _status(ray: Any, ref: Any) -> int:
    try:
        return int(ray.get(ref))
    except ray.exceptions.RayError as error:
        print(f"a trial's place was lost: {type(error).__name__}", file=sys.stderr)
        return 1


def _kept(folder: str, grace_s: float, code: str, variables: dict[str, str]) -> int:
    """The task: a keeper for the trial, which lives no longer than this one holds its pipe."""
    gpus = {name: os.environ[name] for name in ("CUDA_VISIBLE_DEVICES",) if os.environ.get(name)}
    command = [sys.executable, "-m", "pipelines.sweeping.keeper", folder, str(grace_s)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=code, env=variables | gpus, stdin=pipe, stdout=pipe, text=True) as keeper:
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        try:
            return int(keeper.stdout.read() or 1)
        finally:
            keeper.stdin.close()
            keeper.stdout.read()  # until it has stopped its stage
