"""Everything that training carries from step to step, and its way into named tensors and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from diffusion.models import EMA
from diffusion.training.health import Health
from diffusion.training.history import History
from diffusion.training.optimizer import AdamW
from diffusion.training.tensors import copy_into
from diffusion.training.times import Times

Groups = Mapping[str, Mapping[str, Tensor]]
"""Named tensors by group: `weights`, `ema`, `optimizer`, `history`, `health`, and `times` where they are learned."""


@dataclass
class TrainingState:
    """The state after `step` updates. Random generators are no part of it: draws are functions of the step."""

    net: nn.Module
    """The weights being trained."""
    ema: EMA
    """Their average, kept apart: training never goes on from it."""
    optimizer: AdamW
    history: History
    health: Health
    """The row of bad steps, and whether training has failed."""
    times: Times
    """The distribution of times; with importance sampling it learns from the losses."""
    step: int = 0
    """Updates done."""

    def groups(self) -> dict[str, dict[str, Tensor]]:
        """All tensors, not copied."""
        learned = self.times.tensors()
        return {
            "weights": dict(self.net.state_dict()),
            "ema": dict(self.ema.tensors),
            "optimizer": self.optimizer.tensors(),
            "history": self.history.tensors(),
            "health": self.health.tensors(),
            **({"times": learned} if learned else {}),
        }

    def load(self, groups: Groups, step: int) -> None:
        """Put back what `groups` gave after `step` updates, bit for bit.

        Raises:
            ValueError: a tensor is missing, unknown, or of another shape or type.
        """
        copy_into(self.net.state_dict(), groups["weights"], "the weights")
        self.ema.load(dict(groups["ema"]))
        self.optimizer.load(groups["optimizer"])
        self.history.load(groups["history"])
        self.health.load(groups["health"])
        self.times.load(groups.get("times", {}))
        self.step = step
