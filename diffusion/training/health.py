"""A loss or gradient that is not finite stops training before it reaches the weights, without a wait in each step.

Whether a step was finite is known on the device; asking for it would make the host wait for the device each time. So
the device remembers the first step that was not, and from it on blocks every update. The host asks where it waits
anyway: when it logs, before a validation and before a checkpoint. Until then nothing is lost but those steps, and the
weights are still the ones that the failing step began with, so `diagnose` can repeat it and name the images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffusion.training.objective import Objective


class Health:
    """Remembers the first step that was not finite."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._first = torch.full((), -1, dtype=torch.int64, device=device)

    def observe(self, step: int, *numbers: Tensor) -> Tensor:
        """Note whether all numbers () of a step (counted from 0) are finite.

        Returns:
            (): 1.0 if the update must be blocked, because of this or an earlier step, else 0.0.
        """
        finite = torch.stack(numbers).isfinite().all()
        self._first.copy_(torch.where(finite | (self._first >= 0), self._first, step))
        return (self._first >= 0).float()

    def first_bad_step(self) -> int | None:
        """The first step that was not finite, counted from 0. Waits for the device."""
        first = int(self._first.item())
        return None if first < 0 else first


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
