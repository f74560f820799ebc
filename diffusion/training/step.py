"""One step: gradient, health, clipping, AdamW, average."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion.training.echo import Echo, Heard
from diffusion.training.gradient import FlatGradient
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

    A step never waits for the device to end it, but for every tenth where the distribution of times learns.
    """

    def __init__(self, state: TrainingState, reduction: Reduction, rule: UpdateRule, tally: Tally) -> None:
        self.state = state
        self.rule = rule
        self._tally = tally
        self._echo = Echo(next(state.net.parameters()).device)
        self._reduction = reduction

    def step(self, stop: bool = False) -> Heard | None:
        """One update of the weights, left out where the step was not finite or training has failed (see `Health`).

        A step that is left out counts in no curve and teaches the distribution of times nothing; the average goes on
        towards the weights as they are.

        Args:
            stop: this worker wishes to stop after the step; all workers hear of it.

        Returns:
            What is known on the host: of this step, on a GPU of the one before; see `Echo`.
        """
        state = self.state
        gradient = self._reduction(state.step, stop)
        norm = clip(gradient, self.rule.clip_norm)
        blocked = state.health.observe(state.step, gradient.loss, norm)
        state.optimizer.update(gradient.views, self.rule.rate(state.step), blocked)
        state.ema.update(state.net, state.step)
        state.history.add(gradient.loss, norm, self._tally.of_step(gradient.tallied), blocked)
        if self._tally.per_time:
            squares, counts = self._tally.per_time_sums(gradient.tallied)
            good, none = blocked == 0, torch.zeros_like(counts)
            state.times.observe(state.step, squares.where(good, none), counts.where(good, none))
        heard = self._echo(state.step, gradient.loss, blocked, gradient.wishes)
        state.step += 1
        return heard

    def close_points(self, batch_size: int) -> tuple[LossPoint, BoundPoint] | None:
        """End a point of the loss and of the running bound over the steps since the last, each of `batch_size` images.

        None, and nothing ends, where all of them were left out.
        """
        state = self.state
        if not (steps := state.history.counted):
            return None
        running = self._tally.point(state.step, state.history.tallied, steps * batch_size, steps)
        state.history.running.append(running)
        return state.history.close(state.step, self.rule.rate(state.step - 1)), running


def clip(gradient: FlatGradient, largest: float | None) -> Tensor:
    """Scale the gradient in place so that its Euclidean norm is at most `largest`; the norm before, ()."""
    norm: Tensor = torch.linalg.vector_norm(gradient.gradient)
    if largest is not None:
        gradient.gradient.mul_((largest / norm).clamp(max=1.0))
    return norm
