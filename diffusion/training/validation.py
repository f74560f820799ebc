"""The bound on a few held-out images while training: small, with few times, the same number on any count of workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import functional_call

from diffusion.process import BoundTerms, NoiseSchedule, bound
from diffusion.process.decoder import Decoder
from diffusion.training.points import BoundPoint
from diffusion.training.random import normal_per_image
from diffusion.training.tree import Shares


@dataclass(frozen=True)
class Validation:
    """What the bound is measured on, and how.

    The images are cut into as many chunks as there are virtual shards, each chunk is measured alone, and each worker
    measures the chunks of its shards: neither the kernels' rounding nor the order of a sum depends on the workers.
    """

    x_0: Tensor
    """(N, C, H, W) float32 in [-1, 1], on the network's device."""
    ids: Sequence[str]
    """(N,): what names each image; its noise depends on it."""
    y: Tensor | None
    """(N,) int64: the classes, for a network that is told them."""
    schedule: NoiseSchedule
    times: Sequence[int]
    """Decreasing: the times of the respaced process that is measured."""
    decoder: Decoder
    seed: int
    shares: Shares

    def __call__(self, net: nn.Module, weights: Mapping[str, Tensor], step: int, rank: int = 0) -> BoundPoint:
        """The bound of `net` with `weights` in place of its own, in eval mode; mean over the images, on every worker.

        Raises:
            ValueError: a prediction is not finite.
        """
        numbers = torch.zeros(len(self.ids), 3, dtype=torch.float64, device=self.x_0.device)
        with evaluating(net):
            for shard in self.shares.of(rank):
                rows = self._rows(shard)
                if len(rows):
                    terms = self._bound(net, weights, rows)
                    numbers[rows.start : rows.stop] = torch.stack([terms.L_T, terms.L_t_sum, terms.L_0], dim=1)
        if self.shares.workers > 1:
            dist.all_reduce(numbers)  # each row has one worker's numbers and zeros else, so the sum is exact
        L_T, L_t_sum, L_0 = numbers.mean(dim=0).tolist()
        return BoundPoint(step, L_T, L_t_sum, L_0, total=L_T + L_t_sum + L_0)

    def _rows(self, shard: int) -> range:
        """The images of one chunk, as even as they go."""
        n, V = len(self.ids), self.shares.leaves
        return range(shard * n // V, (shard + 1) * n // V)

    def _bound(self, net: nn.Module, weights: Mapping[str, Tensor], rows: range) -> BoundTerms:
        x_0, ids = self.x_0[rows.start : rows.stop], self.ids[rows.start : rows.stop]
        y = None if self.y is None else self.y[rows.start : rows.stop]

        def noise(t: int, shape: torch.Size) -> Tensor:
            return normal_per_image(self.seed, "validation", ids, t, shape[1:])

        def model(x_t: Tensor, t: Tensor, **labels: Tensor) -> Tensor:
            eps_hat: Tensor = functional_call(net, dict(weights), (x_t, t), labels)
            return eps_hat

        return bound(model, self.schedule, x_0, noise=noise, times=self.times, decoder=self.decoder, y=y)


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Eval mode for the block (dropout would bias the bound), then whatever mode it was before."""
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)
