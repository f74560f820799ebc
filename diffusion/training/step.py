"""One step: gradient, health, clipping, AdamW, average."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion.training.gradient import FlatGradient
from diffusion.training.health import Health
from diffusion.training.rate import LearningRate
from diffusion.training.reduction import Reduction
from diffusion.training.state import TrainingState


@dataclass(frozen=True)
class UpdateRule:
    """What is done with a gradient."""

    rate: LearningRate
    clip_norm: float | None = None
    """Largest norm of the whole gradient; None: no clipping."""


class Trainer:
    """Takes a state from step to step. Every worker does the same update to its own copy of the state.

    A step never waits for the device.
    """

    def __init__(self, state: TrainingState, reduction: Reduction, rule: UpdateRule) -> None:
        self.state = state
        self.rule = rule
        self.health = Health(next(state.net.parameters()).device)
        self._reduction = reduction

    def step(self) -> None:
        """One update of the weights, unless this or an earlier step was not finite (`health` knows).

        Average and history go on all the same: whoever asks `health` before keeping a state keeps none of theirs.
        """
        state = self.state
        gradient = self._reduction(state.step)
        norm = clip(gradient, self.rule.clip_norm)
        blocked = self.health.observe(state.step, gradient.loss, norm)
        state.optimizer.update(gradient.views, self.rule.rate(state.step), blocked)
        state.ema.update(state.net, state.step)
        state.history.add(gradient.loss, norm)
        state.step += 1


def clip(gradient: FlatGradient, largest: float | None) -> Tensor:
    """Scale the gradient in place so that its Euclidean norm is at most `largest`; the norm before, ()."""
    norm: Tensor = torch.linalg.vector_norm(gradient.gradient)
    if largest is not None:
        gradient.gradient.mul_((largest / norm).clamp(max=1.0))
    return norm
