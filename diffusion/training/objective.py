"""The loss of a minibatch, in parts small enough for one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from diffusion.process import NoiseSchedule, simple_loss
from diffusion.training.draws import seed_dropout
from diffusion.training.minibatch import Minibatch, Minibatches

Loss = Callable[[nn.Module, Minibatch], Tensor]
"""(network, minibatch of n images) -> the loss of each image, (n,)."""


@dataclass(frozen=True)
class SimpleLoss:
    """L_simple of each image (Ho et al. 2020, eq. 14)."""

    schedule: NoiseSchedule
    """On the device of the network."""

    def __call__(self, net: nn.Module, batch: Minibatch) -> Tensor:
        model = net if batch.y is None else partial(net, y=batch.y)
        return simple_loss(model, self.schedule, batch.x_0, batch.t, batch.eps)


@dataclass(frozen=True)
class Objective:
    """The mean loss over the batch, as a sum over virtual shards and microbatches."""

    minibatches: Minibatches
    loss: Loss
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

    def share(self, net: nn.Module, part: Minibatch) -> Tensor:
        """(): the sum of the images' losses over the size of the global batch."""
        return self.loss(net, part).sum() / self.minibatches.batches.batch_size
