"""What Ray Train runs on each training worker."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from pipelines.cluster.board import Teller
from pipelines.cluster.events import Busy
from pipelines.cluster.job import Place
from pipelines.cluster.pulse import Beat, Pulse
from pipelines.errors import PipelineError
from pipelines.tracking.machine import watched

if TYPE_CHECKING:
    from collections.abc import Callable

_ANSWER_S = 10.0
"""How long a beat waits for its answer."""


def train_loop(config: dict[str, Any]) -> None:
    """Train to the run's length, or to where the driver or a preemption stops all workers.

    An error that a restart would only meet again is written on the board. All workers return where all of them have
    met it; else this one raises, so that Ray ends the others.
    """
    import ray
    from ray.exceptions import ActorDiedError

    from pipelines.cluster.loop import Loop
    from pipelines.cluster.not_finite import NotFinite
    from pipelines.cluster.out_of_memory import explain, is_out_of_memory
    from pipelines.runs.lock import writer_lock

    job, board, pulse = config["job"], config["board"], Pulse()
    place = _place(on_gpu=config["on_gpu"])
    node = ray.get_runtime_context().get_node_id()

    def send(beat: Beat) -> str | None:
        try:
            answer: str | None = ray.get(board.beat.remote(beat), timeout=_ANSWER_S)
        except ActorDiedError:  # the driver notices too, and begins again
            return "the board is gone"
        return answer

    preempted: Callable[[], bool] | None = _preempted if config["preemption"] else None
    with pulse.beating(place.rank, node, send), _machine_watched(board):
        try:
            job = job.here()
            with writer_lock(job.run, config["writer_wait_s"]) if place.rank == 0 else nullcontext():
                Loop(job, place, Teller(board), pulse, preempted).run()
        except NotFinite as error:
            ray.get(board.fail.remote(str(error)))
        except (PipelineError, ValueError) as error:
            if _in_its_group(place):
                ray.get(board.fail.remote(str(error)))
            raise
        except Exception as error:
            if is_out_of_memory(error):
                ray.get(board.fail.remote(explain(job, place, error)))
            raise
    ray.get(board.forget.remote(place.rank))


def _in_its_group(place: Place) -> bool:
    """Whether Ray has not dissolved the group of workers under this one, to begin again with more or fewer."""
    import torch.distributed as dist

    return place.workers == 1 or dist.is_initialized()


def _machine_watched(board: Any) -> AbstractContextManager[None]:
    """One worker of each machine tells how busy that is."""
    import ray.train

    context = ray.train.get_context()
    if context.get_local_rank() != 0:
        return nullcontext()
    node = context.get_node_rank()
    return watched(lambda machine: board.post.remote(Busy(node, machine.describe(), machine.read())))


def _preempted() -> bool:
    """Whether the machine of some worker is about to be taken away. All workers ask together and hear the same."""
    import ray.train

    return ray.train.get_preemption_info() is not None


def _place(*, on_gpu: bool) -> Place:
    """Where this worker stands. On a machine with GPUs a worker that was given none computes on the CPU."""
    import ray.train
    import ray.train.torch
    import torch

    context = ray.train.get_context()
    device = ray.train.torch.get_device() if on_gpu else torch.device("cpu")
    return Place(context.get_world_rank(), context.get_world_size(), device)
