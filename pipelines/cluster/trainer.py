"""Ray Train around the loop. Ray supplies workers, placement and restarts; checkpoints and what is resumed are ours."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import ModuleType
from typing import Any

from pipelines.cluster.board import Teller, listening, start_board
from pipelines.cluster.events import Event
from pipelines.cluster.job import Job, Place
from pipelines.cluster.parallel import nothing_fits
from pipelines.cluster.session import ray_session
from pipelines.errors import PipelineError, TrainingError
from pipelines.project import state
from pipelines.settings import RaySettings, Settings


def train(job: Job, settings: Settings, hear: Callable[[Event], None]) -> None:
    """Train a run to its length on Ray's workers, replacing those that die; the final checkpoint is in `job.run`.

    Args:
        job: what to train.
        settings: where, and on how many workers.
        hear: called, from a thread, with what worker 0 tells.

    Raises:
        TrainingError: the workers cannot be had or die too often, or training cannot go on (a loss that is not finite).
    """
    with ray_session(settings) as ray, _ray_train_environment(settings.ray):
        workers = count_workers(ray, settings.ray, job.params.train.virtual_shards)
        board = start_board(ray)
        with listening(ray, board, hear):
            try:
                _fit(job, settings.ray, workers, board)
            except _failures() as error:
                told = ray.get(board.failure.remote())
                raise TrainingError(told or _explain(error, settings.ray, workers)) from error
        if failure := ray.get(board.failure.remote()):
            raise TrainingError(failure)


def count_workers(ray: ModuleType, settings: RaySettings, shards: int) -> int:
    """How many workers train: as set, or the largest power of two that fits the cluster and the virtual shards.

    Raises:
        TrainingError: more than the virtual shards, or than fit a Ray that was started here.
    """
    if settings.workers != "auto" and settings.workers > shards:
        raise TrainingError(
            f"ray.workers is {settings.workers}, but a batch is cut into train.virtual_shards = {shards} parts: use at "
            f"most {shards} workers, or more virtual shards (which is another run)"
        )
    there = ray.cluster_resources()
    wanted = {"CPU": settings.cpus_per_worker, "GPU": settings.gpus_per_worker}
    fitting = min(int(there.get(kind, 0) / amount) for kind, amount in wanted.items() if amount)
    if settings.address is None and fitting < (least := 1 if settings.workers == "auto" else settings.workers):
        raise nothing_fits(f"{least} worker{'s' * (least > 1)} cannot be had on this machine", wanted, there)
    if settings.workers == "auto":
        return 1 << (max(1, min(fitting, shards)).bit_length() - 1)
    return settings.workers


def train_loop(config: dict[str, Any]) -> None:
    """What Ray Train runs on each worker.

    An error that a restart would only meet again is written on the board. All workers return where all of them have
    met it; else this one raises, so that Ray ends the others, and the workers of the next attempt return at once.
    """
    import ray

    from pipelines.cluster.loop import Loop
    from pipelines.cluster.not_finite import NotFinite
    from pipelines.runs.lock import writer_lock

    board = config["board"]
    if ray.get(board.failure.remote()):
        return
    try:
        place = _place(on_gpu=config["on_gpu"])
        with writer_lock(config["job"].run, config["writer_wait_s"]) if place.rank == 0 else nullcontext():
            Loop(config["job"], place, Teller(board)).run()
    except NotFinite as error:
        ray.get(board.fail.remote(str(error)))
    except (PipelineError, ValueError) as error:
        ray.get(board.fail.remote(str(error)))
        raise


def _place(*, on_gpu: bool) -> Place:
    """Where this worker stands. On a machine with GPUs a worker that was given none computes on the CPU."""
    import ray.train
    import ray.train.torch
    import torch

    context = ray.train.get_context()
    device = ray.train.torch.get_device() if on_gpu else torch.device("cpu")
    return Place(context.get_world_rank(), context.get_world_size(), device)


def _fit(job: Job, settings: RaySettings, workers: int, board: Any) -> None:
    """One attempt, under a name of its own: a torn snapshot of an earlier one cannot stop it."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    gpus = settings.gpus_per_worker > 0
    name = f"{job.key}-{secrets.token_hex(4)}"
    storage = state() / "ray"
    resources = {"CPU": settings.cpus_per_worker} | ({"GPU": settings.gpus_per_worker} if gpus else {})
    trainer = TorchTrainer(
        train_loop,
        train_loop_config={
            "job": job,
            "board": board,
            "on_gpu": gpus,
            "writer_wait_s": settings.collective_timeout_s / 2,  # meanwhile the others wait for worker 0
        },
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus, resources_per_worker=resources),
        torch_config=TorchConfig(
            backend="nccl" if gpus else "gloo", timeout_s=max(1, round(settings.collective_timeout_s))
        ),
        run_config=RunConfig(
            name=name,
            storage_path=str(storage),
            failure_config=FailureConfig(
                max_failures=settings.max_failures, controller_failure_limit=settings.max_failures
            ),
            worker_runtime_env={"env_vars": {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}} if gpus else None,
        ),
    )
    try:
        trainer.fit()
    finally:
        shutil.rmtree(storage / name, ignore_errors=True)


@contextmanager
def _ray_train_environment(settings: RaySettings) -> Iterator[None]:
    """The environment variables that Ray Train reads in the driver and passes on; restored afterwards."""
    tries = settings.max_failures + 1
    variables = {
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_TRAIN_COLLECTIVE_TIMEOUT_S": str(settings.collective_timeout_s),
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(settings.start_timeout_s / tries),  # of one try
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": str(int(settings.address is not None)),  # nobody takes this machine away
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _failures() -> tuple[type[Exception], ...]:
    """What `fit` raises."""
    from ray.exceptions import RayError
    from ray.train import TrainingFailedError

    return TrainingFailedError, RayError


def _explain(error: Exception, settings: RaySettings, workers: int) -> str:
    """Ray's error as a message for a person."""
    from ray.train import ControllerError, WorkerGroupError

    if isinstance(error, ControllerError):
        return (
            f"{workers} workers with {settings.cpus_per_worker:g} CPUs and {settings.gpus_per_worker:g} GPUs each "
            f"could not be had within {settings.start_timeout_s:g} s: {_first_line(error.controller_failure)}. "
            "Lower ray.workers, or give the cluster more time (ray.start_timeout_s)"
        )
    if isinstance(error, WorkerGroupError):
        reasons = {_first_line(failure) for failure in error.worker_failures.values()}
        return (
            f"the training workers failed {settings.max_failures + 1} times (ray.max_failures is "
            f"{settings.max_failures}), the last time with: {'; '.join(sorted(reasons))}. The checkpoints are kept: "
            "run the stage again to go on from the newest"
        )
    return f"training failed: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    """The message of an error, without the traceback that Ray adds."""
    cause = getattr(error, "_base_exc", error)
    lines = [line for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0] if lines else ''}"
