"""Run a function over many items on Ray's workers; results come in the order of the items.

What a task computes must depend on its function and item alone. Then the number of workers, the machine a task lands on
and a worker that dies and is replaced change nothing in the results.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import ModuleType
from typing import Any, Protocol, TypeVar

from pipelines.cluster.session import ray_session
from pipelines.errors import TrainingError
from pipelines.settings import Settings

Item = TypeVar("Item")
Result = TypeVar("Result")

OnDone = Callable[[int], None]
"""Called with the index of an item when its result is there, in the order of completion."""

_HELD = 4
"""Results per worker, running or waiting for their turn: the bound on memory if one item takes much longer."""


class Mapper(Protocol):
    """`serial_map`, or `ray_map` for given settings: function and items in, (index, result) in order out."""

    def __call__(
        self, function: Callable[[Item], Result], items: Iterable[Item], on_done: OnDone | None = None
    ) -> Iterator[tuple[int, Result]]: ...


def on_ray(settings: Settings) -> Mapper:
    """`ray_map` with these settings."""
    return partial(ray_map, settings)


def serial_map(
    function: Callable[[Item], Result], items: Iterable[Item], on_done: OnDone | None = None
) -> Iterator[tuple[int, Result]]:
    """The same as `ray_map` in this process, with the same bits."""
    for index, item in enumerate(items):
        result = _repeatably(function, item)
        if on_done:
            on_done(index)
        yield index, result


def ray_map(
    settings: Settings, function: Callable[[Item], Result], items: Iterable[Item], on_done: OnDone | None = None
) -> Iterator[tuple[int, Result]]:
    """Yield (index, function(item)) in the order of the items, which are taken as workers become free.

    The function is sent once, with all that it holds; it must be importable or picklable by Ray. Its arrays arrive
    read-only. A task whose worker dies is run again, `settings.ray.max_failures` times; an error that the function
    raises is raised here as it is.

    Raises:
        TrainingError: no worker can be had, or workers died too often.
    """
    with ray_session(settings) as ray:
        width = workers_at_once(ray, settings)
        task = ray.remote(
            num_cpus=settings.ray.cpus_per_worker,
            num_gpus=settings.ray.gpus_per_worker,
            max_retries=settings.ray.max_failures,
        )(_repeatably)
        sent = ray.put(function)
        submit = partial(task.remote, sent)
        yield from _in_order(ray, submit, enumerate(items), width, on_done)


def _in_order(
    ray: ModuleType, submit: Callable[[Any], Any], items: Iterator[tuple[int, Any]], width: int, on_done: OnDone | None
) -> Iterator[tuple[int, Any]]:
    """Keep `width` tasks running, and their results until it is their turn.

    After an error those that still run are left to end by themselves, at the latest with the session: Ray 2.60 kills
    the driver when a task is cancelled in the moment in which it ends.
    """
    running: dict[Any, int] = {}
    waiting: dict[int, Any] = {}
    turn = 0
    while True:
        while len(running) < width and len(running) + len(waiting) < _HELD * width:
            if (entry := next(items, None)) is None:
                break
            running[submit(entry[1])] = entry[0]
        if not running:
            return
        for task in ray.wait(list(running))[0]:
            index = running[task]
            waiting[index] = _result(ray, task, index)
            del running[task]
            if on_done:
                on_done(index)
        while turn in waiting:
            yield turn, waiting.pop(turn)
            turn += 1


def _repeatably(function: Callable[[Item], Result], item: Item) -> Result:
    """Call the function with nothing left to chance that changes the bits of what torch computes.

    That is the number of threads, and on a GPU the choice of kernels: gradients of attention have a fixed order of sums
    only if torch is told to refuse everything else. A GPU's convolutions are in float32 too: torch's default is TF32
    with its 10 bits, which a measure would show.
    """
    import torch

    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads, cudnn, other = torch.get_num_threads(), torch.backends.cudnn, torch.utils.deterministic
    conv: Any = cudnn.conv  # type: ignore[attr-defined]
    before = cudnn.deterministic, cudnn.benchmark, conv.fp32_precision
    mode, fill = torch.get_deterministic_debug_mode(), other.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms would import the compiler, too
    other.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    cudnn.deterministic, cudnn.benchmark, conv.fp32_precision = True, False, "ieee"
    try:
        return function(item)
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(mode)
        other.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
        cudnn.deterministic, cudnn.benchmark, conv.fp32_precision = before


def _result(ray: ModuleType, task: Any, index: int) -> Any:
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise TrainingError(
            f"the worker of task {index} died, and so did those that took its place: {error}\n"
            "Too little memory is the usual reason: use fewer workers (ray.workers) or a smaller batch size"
        ) from error


def workers_at_once(ray: ModuleType, settings: Settings) -> int:
    """Tasks to keep running: as many as fit, or as the settings say. Waits for a cluster that is still growing."""
    wanted = {"CPU": settings.ray.cpus_per_worker, "GPU": settings.ray.gpus_per_worker}
    give_up = time.monotonic() + (settings.ray.start_timeout_s if settings.ray.address else 0)
    while True:
        there = ray.cluster_resources()
        fitting = min(int(there.get(kind, 0) / amount) for kind, amount in wanted.items() if amount)
        if fitting:
            return settings.ray.most_workers or fitting
        if time.monotonic() >= give_up:
            raise nothing_fits("no worker fits", wanted, there)
        time.sleep(1)


def nothing_fits(what: str, wanted: Mapping[str, float], there: Mapping[str, float]) -> TrainingError:
    """`what` with the resources that each worker needs and those that Ray has."""
    asked = ", ".join(f"{amount:g} {kind}" for kind, amount in wanted.items() if amount)
    found = ", ".join(f"{there.get(kind, 0):g} {kind}" for kind in wanted)
    return TrainingError(f"{what}: each needs {asked} (ray.cpus_per_worker, ray.gpus_per_worker), Ray has {found}")
