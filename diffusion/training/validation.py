"""The bound on a few held-out images while training, the same number on any count of workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import functional_call

from diffusion.process import Decoder, EstimatedTerms, NoiseSchedule, Target, Variance, estimate_bound, log_snr_bins
from diffusion.process.bins import TimeBins
from diffusion.training.points import BoundPoint
from diffusion.training.random import normal_per_image, numbers
from diffusion.training.tree import Shares


@dataclass(frozen=True)
class Validation:
    """What the bound is estimated on, and how.

    The images are cut into as many chunks as there are virtual shards, each chunk is measured alone, and each worker
    measures the chunks of its shards: neither the kernels' rounding nor the order of a sum depends on the workers.
    Times and noise are functions of the image, so that the points of a curve differ by the weights alone.
    """

    x_0: Tensor
    """(N, C, H, W) float32 in [-1, 1], on the network's device."""
    ids: Sequence[str]
    """(N,): what names each image; its times and its noise depend on it."""
    y: Tensor | None
    """(N,) int64: the classes, for a network that is told them."""
    schedule: NoiseSchedule
    calls: int
    """Of the network for each image, see `estimate_bound`."""
    decoder: Decoder
    seed: int
    shares: Shares
    bins: int = 16
    target: Target | str = Target.EPS
    variance: Variance | str = Variance.SMALL

    def __call__(self, net: nn.Module, weights: Mapping[str, Tensor], step: int, rank: int = 0) -> BoundPoint:
        """The bound of `net` with `weights` in place of its own, in eval mode; mean over the images, on every worker.

        Raises:
            ValueError: a prediction is not finite, or there is a single image, which has no standard error.
        """
        N, B = len(self.ids), self.bins
        found = torch.zeros(N, 2 + 2 * B, dtype=torch.float64, device=self.x_0.device)
        with evaluating(net):
            for shard in self.shares.of(rank):
                rows = self._rows(shard)
                if len(rows):
                    terms = self._estimate(net, weights, rows)
                    parts = [terms.L_T[:, None], terms.L_0[:, None], *terms.replicates]
                    found[rows.start : rows.stop] = torch.cat(parts, dim=1)
        if self.shares.workers > 1:
            dist.all_reduce(found)  # each row has one worker's numbers and zeros else, so the sum is exact
        replicates = found[:, 2:].reshape(N, 2, B).transpose(0, 1)
        return _point(step, EstimatedTerms(found[:, 0], found[:, 1], replicates, self._bins, self.calls))

    def _rows(self, shard: int) -> range:
        """The images of one chunk, as even as they go."""
        n, V = len(self.ids), self.shares.leaves
        return range(shard * n // V, (shard + 1) * n // V)

    def _estimate(self, net: nn.Module, weights: Mapping[str, Tensor], rows: range) -> EstimatedTerms:
        ids = self.ids[rows.start : rows.stop]

        def noise(k: int, t: Tensor, shape: torch.Size) -> Tensor:
            return normal_per_image(self.seed, "validation", ids, t.tolist(), shape[1:])

        def model(x_t: Tensor, t: Tensor, **labels: Tensor) -> Tensor:
            output: Tensor = functional_call(net, dict(weights), (x_t, t), labels)
            return output

        return estimate_bound(
            model,
            self.schedule,
            self.x_0[rows.start : rows.stop],
            noise=noise,
            uniforms=lambda k, n: self._uniforms[rows.start : rows.stop, k - 1],
            decoder=self.decoder,
            calls=self.calls,
            variance=self.variance,
            y=None if self.y is None else self.y[rows.start : rows.stop],
            target=self.target,
            bins=self._bins,
        )

    @cached_property
    def _uniforms(self) -> Tensor:
        """(N, calls - 1) float64: what the times of each image are drawn from."""
        drawn = [numbers(self.seed, "validation-times", image).random(self.calls - 1) for image in self.ids]
        return torch.from_numpy(np.stack(drawn))

    @cached_property
    def _bins(self) -> TimeBins:
        return log_snr_bins(self.schedule, self.bins)


def _point(step: int, terms: EstimatedTerms) -> BoundPoint:
    """The mean over the images."""
    e = terms.estimates()
    errors = (e.L_t_sum.standard_error, e.L_0.standard_error, e.total.standard_error)
    means = (e.L_T.mean, e.L_t_sum.mean, e.L_0.mean)
    return BoundPoint("validation", step, *means, *errors, tuple(part.mean for part in e.L_t_bins))


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Eval mode for the block (dropout would bias the bound), then whatever mode it was before."""
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)
