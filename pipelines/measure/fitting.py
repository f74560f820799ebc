"""A smaller batch where the one asked for does not fit the memory.

The noise of an image depends on its id and not on its batch, so a smaller batch changes no more than the rounding of
the kernels. It is the stage's number all the same: a person is told, and the card names the size that was used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from pipelines.cluster.out_of_memory import is_out_of_memory, peak_of
from pipelines.errors import PipelineError, first_line

Result = TypeVar("Result")


@dataclass(frozen=True)
class Fitted(Generic[Result]):
    """What a task computed, and how."""

    result: Result
    smaller: int | None = None
    """The batch size that fitted, where the one asked for did not."""


@dataclass(frozen=True)
class Work:
    """What a task does, for the message where not even one image fits."""

    name: str
    """`sampling`."""
    parameter: str
    """Of its batch size: `sample.batch_size`."""
    shape: Sequence[int]
    """(C, H, W) of one image."""
    device: str


def fitted(compute: Callable[[int], Result], size: int, work: Work) -> Fitted[Result]:
    """`compute(size)`, or if that does not fit the memory with half the size, and so on down to 1.

    Args:
        compute: does all of a task in batches of the given size. It begins anew with each size, so what a task gives
            depends on the task and on the size alone.
        size: the batch size to begin with.

    Raises:
        PipelineError: a batch of one does not fit either.
    """
    for smaller in halvings(size):
        try:
            return Fitted(compute(smaller), smaller if smaller < size else None)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = first_line(error)
        if torch.cuda.is_available():  # here, where no traceback holds on to the tensors
            torch.cuda.empty_cache()
    shape = "x".join(map(str, work.shape))
    raise PipelineError(
        f"{work.name} does not fit the memory of {work.device}, not even with batches of a single image of {shape}; "
        f"{peak_of(work.device)} ({reason}). Begin with a much lower {work.parameter} (it is {size}), let "
        "fewer workers share the memory (ray.workers, ray.gpus_per_worker in infra/cluster.yaml), or train a "
        "smaller model"
    )


def halvings(size: int) -> Iterator[int]:
    """size, size // 2, .. 1."""
    while size >= 1:
        yield size
        size //= 2


class BatchSize:
    """The batch size that all tasks of a stage used."""

    def __init__(self, parameter: str, asked: int) -> None:
        self._parameter = parameter
        self._asked = asked
        self._reduced = 0
        self.used = asked
        """The smallest, where some tasks had less memory than others."""

    def result(self, fitted: Fitted[Result]) -> Result:
        """The task's result; its size is noted."""
        if fitted.smaller is not None:
            self._reduced += 1
            self.used = min(self.used, fitted.smaller)
        return fitted.result

    def tell(self) -> None:
        """Tell a person, in one line, if it was not the one asked for."""
        if self._reduced:
            print(
                f"{self._parameter} is {self._asked}, which did not fit the memory in {self._reduced} "
                f"task{'s' * (self._reduced > 1)}; {self.used} did. Set {self._parameter} to "
                f"{self.used} in params.yaml to use it from the start",
                file=sys.stderr,
                flush=True,
            )
