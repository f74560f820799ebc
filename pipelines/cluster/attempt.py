"""One attempt of Ray Train to bring a run to its length, and how it ended."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.cluster.board import Report
from pipelines.cluster.gloo import torch_config
from pipelines.cluster.job import Job
from pipelines.cluster.worker import train_loop
from pipelines.errors import TrainingError, first_line
from pipelines.project import state
from pipelines.settings import RaySettings

Workers = int | tuple[int, int]
"""A number, or as many as there are at the time from the first to the second."""


@dataclass(frozen=True)
class Failed:
    """The workers, or Ray Train's controller, died."""

    reasons: Mapping[int, str]
    """By rank, those that died themselves, or else those that lost the others; empty where it was a part of Ray."""
    preempted: bool = False
    """Whether their machine was taken away, which is nobody's fault."""
    of_ray: str | None = None
    """What happened to what Ray runs for us, if it was to none of the workers: `Ray Train's controller died`."""

    def describe(self, report: Report) -> str:
        """For a person: who died, where, and of what."""
        if self.of_ray:
            return self.of_ray
        return "; ".join(f"{_who(rank, report)} {report.where(rank)}: {self.reasons[rank]}" for rank in self.reasons)


def _who(rank: int, report: Report) -> str:
    sign = report.signs.get(rank)
    return f"worker {rank} (process {sign.beat.pid})" if sign else f"worker {rank}"


def sweep(key: str) -> None:
    """Remove what Ray Train has left of the attempts of drivers that were killed. The caller holds the run's lock."""
    for left in (state() / "ray").glob(f"{key}-*"):
        shutil.rmtree(left, ignore_errors=True)


def attempt(job: Job, settings: RaySettings, workers: Workers, board: Any) -> Failed | None:
    """Run the workers until they end; None if none of them failed.

    Each attempt has a name of its own, so that a torn snapshot of an earlier one cannot stop it, and no retries of
    Ray's: what is tried again is decided where the checkpoints are known.

    Raises:
        TrainingError: the workers cannot be had, or Ray fails by itself.
    """
    from ray.exceptions import ActorDiedError, RayError
    from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import PreemptionError

    gpus = settings.gpus_per_worker > 0
    name, storage = f"{job.key}-{secrets.token_hex(4)}", _scratch(settings)
    resources = {"CPU": settings.cpus_per_worker} | ({"GPU": settings.gpus_per_worker} if gpus else {})
    timeout_s = max(1, round(settings.collective_timeout_s))
    trainer = TorchTrainer(
        train_loop,
        train_loop_config={
            "job": job,
            "board": board,
            "on_gpu": gpus,
            "preemption": settings.address is not None,
            "writer_wait_s": settings.collective_timeout_s / 2,  # meanwhile the others wait for worker 0
        },
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus, resources_per_worker=resources),
        torch_config=torch_config(backend_for(settings.gpus_per_worker), timeout_s),
        run_config=RunConfig(
            name=name,
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0, max_preemption_failures=0),
            worker_runtime_env={"env_vars": {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}} if gpus else None,
        ),
    )
    try:
        if isinstance(workers, tuple):
            _count_machines()
        trainer.fit()
    except ControllerError as error:
        return _not_started(error.controller_failure, settings, workers)
    except PreemptionError:
        return Failed({}, preempted=True)
    except WorkerGroupError as error:
        return _failed(error.worker_failures)
    except ActorDiedError:
        return Failed({}, of_ray="Ray Train's controller died")
    except RayError as error:
        raise TrainingError(f"Ray failed: {_of_ray(error)}") from error
    finally:
        shutil.rmtree(storage / name, ignore_errors=True)
    return None


def _scratch(settings: RaySettings) -> Path:
    """Where Ray Train's controller leaves what nobody reads. It runs beside the driver, but for a driver that comes
    through Ray's client: then it is on the cluster's head, which need not see this project."""
    if settings.address and settings.address.startswith("ray://"):
        return Path(f"/tmp/pipelines-ray-{os.getuid()}")
    return state() / "ray"


def _count_machines() -> None:
    """Let Ray count its machines now, which it does every 20 s by itself.

    Elastic workers are as many as fit the last count. If that still has a machine that has just gone, Ray waits for it
    until the time is up.
    """
    import ray
    from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
        get_or_create_autoscaling_coordinator,
    )

    ray.get(get_or_create_autoscaling_coordinator().get_reserved_resources.remote("nobody", recompute=True))


def backend_for(gpus_per_worker: float) -> str:
    """What carries the workers' messages: NCCL where each has a GPU of its own. It refuses those that share one."""
    return "nccl" if gpus_per_worker >= 1 else "gloo"


def _not_started(failure: Exception, settings: RaySettings, workers: Workers) -> Failed:
    """What kept Ray Train's controller from bringing the workers up: time may help where one of them died.

    Raises:
        TrainingError: there is no room for them, or the controller failed by itself.
    """
    from ray.exceptions import RayActorError, RayTaskError
    from ray.train.v2._internal import exceptions

    if isinstance(failure, exceptions.WorkerGroupStartupTimeoutError) and isinstance(workers, tuple):
        return Failed({}, of_ray="a machine that Ray had counted for the workers could not be had")
    if isinstance(failure, exceptions.WorkerGroupStartupTimeoutError | exceptions.InsufficientClusterResourcesError):
        raise TrainingError(_not_had(failure, settings, workers)) from failure
    if isinstance(failure, exceptions.WorkerGroupStartupFailedError | RayActorError):
        return Failed({}, of_ray="a worker died while the workers were starting")
    if isinstance(failure, RayTaskError):  # of torch's, when one of those that it waits for is gone
        return Failed({}, of_ray=f"the workers did not meet: {first_line(failure.cause)}")
    raise TrainingError(f"Ray Train failed: {_of_ray(failure)}") from failure


def _failed(failures: Mapping[int, Exception]) -> Failed:
    """Those that died themselves are the reason; the others only lost them."""
    from ray.exceptions import OutOfMemoryError, RayActorError

    causes = {rank: getattr(error, "health_check_failure", error) for rank, error in sorted(failures.items())}
    died = {rank: error for rank, error in causes.items() if isinstance(error, RayActorError | OutOfMemoryError)}
    reasons = {rank: death(error) for rank, error in died.items()}
    return Failed(
        reasons or {rank: _of_ray(error) for rank, error in causes.items()},
        preempted=any(getattr(error, "preempted", False) for error in died.values()),
    )


def death(error: Exception) -> str:
    """Ray's paragraph on a process that died, in a few words."""
    from pipelines.cluster.out_of_memory import perhaps_killed_for_memory

    text = f"{type(error).__name__}: {error}"
    if "node has died" in text:
        return "its machine is gone"
    if perhaps_killed_for_memory(text):
        return (
            "its process died: killed, crashed, or out of memory (the kernel's log knows; then use fewer workers on a "
            "machine, ray.workers, or a smaller train.microbatch, which is another run)"
        )
    return "its process died"


def _not_had(failure: Exception, settings: RaySettings, workers: Workers) -> str:
    least = workers if isinstance(workers, int) else workers[0]
    return (
        f"{least} workers with {settings.cpus_per_worker:g} CPUs and {settings.gpus_per_worker:g} GPUs each could not "
        f"be had within {settings.start_timeout_s:g} s: {_of_ray(failure)}. Lower ray.workers, or give the cluster "
        "more time (ray.start_timeout_s)"
    )


def _of_ray(error: BaseException) -> str:
    """The first line of an error that Ray may have wrapped, with the traceback that it adds."""
    return first_line(getattr(error, "_base_exc", error))
