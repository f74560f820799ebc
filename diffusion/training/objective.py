"""What training minimises, image by image, and beside it the bound's term that each image tells for nothing.

simple  L_simple, Ho et al. 2020, eq. 14, or another weighting of it
bound   the bound itself: T times the bound's term at the image's time, whose mean over uniform times is L - L_T. Where
        the decoder does not look at the network L_0 would teach nothing, and the weighted error of `BoundWeight` stands
        in for it at t = 1, from where the sampler takes its last step.
hybrid  L_simple + lambda L_bound (Nichol & Dhariwal 2021, eq. 16), L_bound in bits/dim as everywhere here. Of a learned
        variance the gradient of L_bound stops at the mean, which L_simple alone then trains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import log
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from diffusion.process import (
    BoundWeight,
    Decoder,
    FirstStep,
    NoiseSchedule,
    Plain,
    Target,
    Variance,
    Weighting,
    check_target,
    eps_error_scale,
    p_reverse,
    predict_x_0,
    q_sample,
    split_output,
    step_kl,
    target_of,
)
from diffusion.process.schedule import at
from diffusion.training.draws import seed_dropout
from diffusion.training.minibatch import Minibatch, Minibatches
from diffusion.training.tally import Tally
from diffusion.training.tensors import to_device

Goal = Literal["simple", "bound", "hybrid"]


class Losses(NamedTuple):
    """Of n images, each at its time."""

    loss: Tensor
    """(n,): what is minimised; not weighted for the probability of the time."""
    term: Tensor
    """(n,), without gradient: the bound's term at that time, L_{t-1} or L_0, in bits/dim."""


Loss = Callable[[nn.Module, Minibatch], Losses]


@dataclass(frozen=True)
class DiffusionLoss:
    """The loss of a network on a minibatch. Nothing here waits for the device."""

    schedule: NoiseSchedule
    """On the device of the network."""
    decoder: Decoder
    """For L_0."""
    goal: Goal = "simple"
    weighting: Weighting = field(default_factory=Plain)
    """Of the simple part."""
    target: Target | str = Target.EPS
    """What the network predicts."""
    learned: bool = False
    """Whether the network has a learned variance; else the bound's terms are those of the small one."""
    hybrid_weight: float = 1e-3
    """lambda."""

    def __post_init__(self) -> None:
        check_target(self.schedule, self.target)

    def __call__(self, net: nn.Module, batch: Minibatch) -> Losses:
        s = self.schedule
        x_t = q_sample(s, batch.x_0, batch.t, batch.eps)
        output = net(x_t, batch.t) if batch.y is None else net(x_t, batch.t, y=batch.y)
        prediction, v = split_output(output, x_t, learned=self.learned)
        error = (target_of(s, batch.x_0, batch.t, batch.eps, self.target) - prediction) ** 2
        simple = self._weight[batch.t] * error.flatten(1).mean(dim=1)
        match self.goal:
            case "simple":
                with torch.no_grad():
                    return Losses(simple, self._term(batch, x_t, prediction, error, v))
            case "bound":
                term = self._term(batch, x_t, prediction, error, v)
                return Losses(self._at_first(batch, s.T * term, error), term.detach())
            case "hybrid":
                seen = (prediction, error) if v is None else (prediction.detach(), error.detach())
                term = self._term(batch, x_t, *seen, v)
                return Losses(simple + self.hybrid_weight * s.T * term, term.detach())

    def _term(self, batch: Minibatch, x_t: Tensor, prediction: Tensor, error: Tensor, v: Tensor | None) -> Tensor:
        """(n,) float32: L_{t-1}, and L_0 for the images at t = 1, in bits/dim."""
        eps_error = at(self._scale, batch.t, error) * error
        nats = step_kl(self.schedule, batch.t, eps_error, 0.0 if v is None else v).flatten(1).mean(dim=1)
        if rows := batch.first_rows:
            at_1 = to_device(torch.tensor(rows), nats.device)
            L_0 = self._decoded(batch.x_0[at_1], x_t[at_1], prediction[at_1], None if v is None else v[at_1])
            nats = nats.index_copy(0, at_1, L_0)
        return nats / log(2)

    def _at_first(self, batch: Minibatch, bounded: Tensor, error: Tensor) -> Tensor:
        """(n,): what goal `bound` minimises, in bits/dim; with the stand-in for L_0 where that one needs it."""
        if self.decoder.reads_network or not batch.first_rows:
            return bounded
        at_1 = to_device(torch.tensor(batch.first_rows), bounded.device)
        weighted = self._bound_weight[1] * error[at_1].flatten(1).mean(dim=1)
        return bounded.index_copy(0, at_1, weighted / log(2))

    def _decoded(self, x_0: Tensor, x_1: Tensor, prediction: Tensor, v: Tensor | None) -> Tensor:
        """(n,) float32: L_0 of images at t = 1, in nats per dimension."""
        s, exact = self.schedule, x_1.double()
        t = torch.ones(len(x_1), dtype=torch.int64, device=x_1.device)
        x_0_hat = predict_x_0(s, exact, t, prediction.double(), clip=False, target=self.target)
        kind = Variance.LEARNED if self.learned else Variance.SMALL
        p = p_reverse(s, exact, t, x_0_hat, kind, v)
        first = FirstStep(exact, at(s.alpha_bar, t, exact), at(s.one_minus_alpha_bar, t, exact), p.mean, p.variance)
        return -self.decoder.log_likelihood(x_0, first).flatten(1).mean(dim=1).float()

    @cached_property
    def _scale(self) -> Tensor:
        """(T + 1,) float64: from the error of the target to that of eps."""
        return eps_error_scale(self.schedule, self.target)

    @cached_property
    def _weight(self) -> Tensor:
        """(T + 1,) float32: what the error of the target counts."""
        return (self.weighting.of_eps(self.schedule) * self._scale).float()

    @cached_property
    def _bound_weight(self) -> Tensor:
        """(T + 1,) float32: the same under `BoundWeight`."""
        return (BoundWeight().of_eps(self.schedule) * self._scale).float()


class Share(NamedTuple):
    """A part's share in a step."""

    loss: Tensor
    """(): the sum of the images' losses over the size of the global batch."""
    tallied: Tensor
    """(tally.size,): its sums towards the running bound, without gradient."""


@dataclass(frozen=True)
class Objective:
    """The mean loss over the batch, as a sum over virtual shards and microbatches."""

    minibatches: Minibatches
    loss: Loss
    tally: Tally
    microbatch: int | None = None
    """Images per forward pass; None: all that are asked for at once."""
    dropout: bool = False
    """Whether the network draws random numbers of its own, from torch's global generator."""

    def parts(self, step: int, shards: Sequence[int]) -> list[Minibatch]:
        """Minibatches whose `share`s add up to the share of `shards` (neighbouring ones) in the loss of a step.

        The global generator is seeded for their forward passes, to be made at once and in order.
        """
        whole = self.minibatches.of(step, shards)
        if self.dropout:
            seed_dropout(self.minibatches.batches.seed, step, shards[0])
        return whole.split(self.microbatch)

    def share(self, net: nn.Module, part: Minibatch) -> Share:
        """The loss to differentiate, and the sums."""
        loss, term = self.loss(net, part)
        weighted = loss if part.weight is None else loss * part.weight
        term = term if part.told is None else term * part.told
        tallied = self.tally.of(part.x_0, part.t, loss.detach(), term, part.weight)
        return Share(weighted.sum() / self.minibatches.batches.batch_size, tallied)
