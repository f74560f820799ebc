"""One step: gradient, health, clipping, AdamW, average."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion.training.gradient import FlatGradient
from diffusion.training.health import Health
from diffusion.training.points import BoundPoint, LossPoint
from diffusion.training.rate import LearningRate
from diffusion.training.reduction import Reduction
from diffusion.training.state import TrainingState
from diffusion.training.tally import Tally


@dataclass(frozen=True)
class UpdateRule:
    """What is done with a gradient."""

    rate: LearningRate
    clip_norm: float | None = None
    """Largest norm of the whole gradient; None: no clipping."""


class Trainer:
    """Takes a state from step to step. Every worker does the same update to its own copy of the state.

    A step never waits for the device, but for every tenth where the distribution of times learns.
    """

    def __init__(self, state: TrainingState, reduction: Reduction, rule: UpdateRule, tally: Tally) -> None:
        self.state = state
        self.rule = rule
        self._tally = tally
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
        state.history.add(gradient.loss, norm, gradient.tallied)
        if self._tally.per_time:
            state.times.observe(state.step, *self._tally.per_time_sums(gradient.tallied))
        state.step += 1

    def close_points(self, steps: int, images: int) -> tuple[LossPoint, BoundPoint]:
        """End a point of the loss and of the running bound over the last `steps` steps of `images` images in all."""
        state = self.state
        running = self._tally.point(state.step, state.history.tallied, images)
        state.history.running.append(running)
        return state.history.close(state.step, steps, self.rule.rate(state.step - 1)), running


def clip(gradient: FlatGradient, largest: float | None) -> Tensor:
    """Scale the gradient in place so that its Euclidean norm is at most `largest`; the norm before, ()."""
    norm: Tensor = torch.linalg.vector_norm(gradient.gradient)
    if largest is not None:
        gradient.gradient.mul_((largest / norm).clamp(max=1.0))
    return norm
