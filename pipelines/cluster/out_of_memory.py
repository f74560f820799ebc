"""Memory that does not suffice: known by its many names, and told so that a person can act on it."""

from __future__ import annotations

import resource
import sys
import traceback
from typing import TYPE_CHECKING

import torch

from pipelines.errors import first_line

if TYPE_CHECKING:
    from pipelines.cluster.job import Job, Place

_WORDS = (
    "can't allocate memory",  # torch on the CPU
    "not enough memory",
    "out of memory",  # CUDA, where the error has no class of its own
    "ALLOC_FAILED",  # cuBLAS, cuDNN
    "bad_alloc",  # C++
    "could not create a primitive",  # oneDNN, which then makes no new kernel in this process
)
_KILLED = ("OOM", "OutOfMemory", "low on memory", "out of memory")
"""How Ray names memory as the reason, or as one of several, why a worker is gone."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory could not be had."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


def perhaps_killed_for_memory(words: str) -> bool:
    """Whether Ray's words on a worker that is gone name memory: its monitor or the kernel kills where there is none."""
    return any(word in words for word in _KILLED)


def peak_of(device: torch.device | str) -> str:
    """The most memory that this process has had, for a person."""
    device = torch.device(device)
    if device.type == "cuda":
        whole = torch.cuda.get_device_properties(device).total_memory
        return f"its peak was {_giga(torch.cuda.max_memory_allocated(device))} of the GPU's {_giga(whole)} GB"
    unit = 1 if sys.platform == "darwin" else 1024
    return f"its peak was {_giga(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)} GB"


def explain(job: Job, place: Place, error: BaseException) -> str:
    """The message of a training worker that ran out of memory."""
    from pipelines.data.manifest import read_manifest

    shape = "x".join(map(str, read_manifest(job.prepared).shape))
    who = f"training worker {place.rank} of {place.workers} ({place.device.type}) ran out of memory"
    where = ", while it measured the validation bound" if _validating(error) else ""
    what = f"with {_images(job, place)} images of {shape} per forward pass{where}"
    return (
        f"{who} {what}; {peak_of(place.device)} ({first_line(error)}). {_remedy(job, place, error)}. "
        "The checkpoints are kept"
    )


def _remedy(job: Job, place: Place, error: BaseException) -> str:
    at_once, shard = _images(job, place), job.params.train.batch_size // job.params.train.virtual_shards
    elsewhere = "fewer workers share a machine's memory (ray.workers in infra/cluster.yaml)"
    smaller = [size for size in range(1, at_once) if shard % size == 0]
    if _validating(error) or not smaller:
        return f"Lower model.channels, which is another run, or see that {elsewhere}"
    return (
        f"Set train.microbatch to {smaller[-1]} or less (it is {job.params.train.microbatch or 'null'}): that changes "
        f"the rounding, so it is another run, from its start. The same run goes on where {elsewhere}"
    )


def _images(job: Job, place: Place) -> int:
    """Images per forward pass of training: those of a shard, or in `fast` of all shards that the worker owns."""
    train, own = job.params.train, 1
    if train.reduction == "fast":  # as in `Shares`
        first, after = (rank * train.virtual_shards // place.workers for rank in (place.rank, place.rank + 1))
        own = after - first
    whole = own * train.batch_size // train.virtual_shards
    return min(train.microbatch or whole, whole)


def _validating(error: BaseException) -> bool:
    """Whether it happened in the validation bound, whose batches are its own."""
    return any(frame.filename.endswith("validation.py") for frame in traceback.extract_tb(error.__traceback__))


def _giga(size: int) -> str:
    return f"{size / 1e9:.1f}"
