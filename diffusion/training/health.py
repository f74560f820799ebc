"""A loss or gradient that is not finite never reaches the weights, and some of them in a row stop training.

Whether a step was finite is known on the device, and there its update is left out. After so many in a row every later
update is blocked too, so that the weights stay the ones that the failing steps began with until the host asks, and
`diagnose` can repeat a step and name its images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffusion.training.objective import Objective
from diffusion.training.tensors import copy_into


class Health:
    """Counts the steps in a row that were not finite."""

    def __init__(self, patience: int = 1, device: torch.device | str = "cpu") -> None:
        """`patience`: after so many in a row training has failed."""
        if patience < 1:
            raise ValueError(f"the number of bad steps after which training fails must be at least 1, got {patience}")
        self.patience = patience
        self._row = torch.zeros((), dtype=torch.int64, device=device)
        self._first = torch.full((), -1, dtype=torch.int64, device=device)

    def observe(self, step: int, *numbers: Tensor) -> Tensor:
        """Note whether all numbers () of a step (counted from 0) are finite.

        Returns:
            (): 1.0 if the update must be left out, because of this step or because training has failed, else 0.0.
        """
        bad = ~torch.stack(numbers).isfinite().all()
        failed = self._row >= self.patience
        self._first.copy_(torch.where(failed | (self._row > 0), self._first, step))
        self._row.copy_(torch.where(failed, self._row, torch.where(bad, self._row + 1, 0)))
        return (bad | failed).float()

    def failed_at(self) -> int | None:
        """The first of the bad steps in a row with which training failed, counted from 0. Waits for the device."""
        return int(self._first.item()) if int(self._row.item()) >= self.patience else None

    def tensors(self) -> dict[str, Tensor]:
        """The row so far, not copied: training may be interrupted within it."""
        return {"row": self._row, "first": self._first}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` gave."""
        copy_into(self.tensors(), tensors, "the row of bad steps")


@dataclass(frozen=True)
class Suspect:
    """An image of a step that failed."""

    index: int
    """In the training images."""
    t: int
    loss: float


@torch.no_grad()
def diagnose(net: nn.Module, objective: Objective, step: int) -> list[Suspect]:
    """The images of a step with what the network makes of them, those with non-finite or the largest losses first.

    Every shard is computed again as in `strict`, with the weights as they are.
    """
    suspects = []
    batches = objective.minibatches.batches
    for shard in range(batches.shards):
        parts = objective.parts(step, [shard])
        losses = torch.cat([objective.loss(net, part).loss for part in parts]).tolist()
        times = torch.cat([part.t for part in parts]).tolist()
        suspects += [
            Suspect(index, t, loss)
            for index, t, loss in zip(batches.indices(step, shard).tolist(), times, losses, strict=True)
        ]
    return sorted(suspects, key=_by_loss, reverse=True)


def _by_loss(suspect: Suspect) -> float:
    return suspect.loss if suspect.loss == suspect.loss else float("inf")
