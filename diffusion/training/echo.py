"""What the host hears of a step without waiting for the device.

On a CPU the numbers are there at once. A GPU still computes when the host has asked for the step: its numbers are
copied to page-locked memory behind the step's kernels, and heard after the next step was asked for. So the host runs at
most one step ahead, and the device always has work. The numbers are sums over all workers: all hear the same, at the
same step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Heard:
    """One step, on the host."""

    step: int
    """Counted from 0."""
    loss: float
    """Of the global batch."""
    bad: bool
    """Whether its update was left out, since the loss or the gradient was not finite."""
    stop: bool
    """Whether a worker wishes to stop."""


class Echo:
    """Takes the numbers of each step and gives back those that are there."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._late = torch.device(device).type == "cuda"
        self._pinned = [torch.empty(3).pin_memory() for _ in range(2)] if self._late else []
        self._on_the_way: list[tuple[int, Tensor, torch.cuda.Event]] = []

    def __call__(self, step: int, loss: Tensor, bad: Tensor, wishes: Tensor) -> Heard | None:
        """Take a step's numbers, each (); what is heard: this step, on a GPU the one before, None after its first."""
        numbers = torch.stack([loss, bad, wishes])
        if not self._late:
            return _heard(step, numbers)
        there = self._pinned[step % 2]
        there.copy_(numbers, non_blocking=True)
        done: torch.cuda.Event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()
        self._on_the_way.append((step, there, done))
        if len(self._on_the_way) == 1:
            return None
        before, its_numbers, its_end = self._on_the_way.pop(0)
        its_end.synchronize()
        return _heard(before, its_numbers)


def _heard(step: int, numbers: Tensor) -> Heard:
    loss, bad, wishes = numbers.tolist()
    return Heard(step, loss, bad > 0, wishes > 0)
