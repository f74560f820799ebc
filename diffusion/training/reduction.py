"""From virtual shards to the gradient of the global batch, the same on every worker.

Samples, flips, t and eps do not depend on the reduction; what differs is the order of the sum:

strict  each shard's gradient alone, summed in a fixed tree: the same bits on any number of workers from 1 to V;
fast    one pass over all shards of a worker, averaged by DDP while the backward pass runs: the same up to the rounding
        of floating-point sums, and dropout is drawn per worker.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from diffusion.training.gradient import FlatGradient
from diffusion.training.objective import Objective
from diffusion.training.overlap import Overlap
from diffusion.training.tree import Shares, TreeSum


class Reduction(Protocol):
    """The gradient and the loss of one step."""

    def __call__(self, step: int, stop: bool = False) -> FlatGradient:
        """For the step's global batch (counted from 0), on every worker; valid until the next call.

        `stop`: this worker wishes to stop.
        """


def reduction(mode: str, net: nn.Module, objective: Objective, shares: Shares, rank: int = 0) -> Reduction:
    """`strict` or `fast`, for worker `rank` of those that share the virtual shards."""
    match mode:
        case "strict":
            return Strict(net, objective, shares, rank)
        case "fast":
            return Fast(net, objective, shares, rank)
    raise ValueError(f"reduction must be strict or fast, got {mode!r}")


class Strict:
    """Each virtual shard alone, then the tree.

    On 2, 4, 8 .. workers the messages overlap with the last backward pass of each, but for a gradient of 4 MiB and
    less; for other numbers see `diffusion.training.tree`. One worker has no messages.
    """

    def __init__(self, net: nn.Module, objective: Objective, shares: Shares, rank: int) -> None:
        self._net = net
        self._objective = objective
        self._parameters = list(net.parameters())
        self._buffers = [FlatGradient.like(self._parameters, objective.tally.size) for _ in range(shares.buffers)]
        self._sum = TreeSum(shares, rank, [buffer.flat for buffer in self._buffers])
        self._last = shares.of(rank)[-1]
        self._overlap: Overlap | None = None
        if shares.workers > 1 and shares.doubling:
            self._overlap = Overlap.of(self._sum, self._buffers[self._sum.last], self._parameters)

    def __call__(self, step: int, stop: bool = False) -> FlatGradient:
        def shard(number: int, buffer: int) -> None:
            self._shard(step, number, self._buffers[buffer], stop)

        if self._overlap is None:
            self._sum(shard)
        else:
            self._sum.begin(shard)
            self._shard(step, self._last, self._buffers[self._sum.last], stop, self._overlap)
        return self._buffers[0]

    def _shard(self, step: int, shard: int, out: FlatGradient, stop: bool, overlap: Overlap | None = None) -> None:
        """The gradient of one virtual shard, microbatch by microbatch, into `out`; with `overlap` the sum over all."""
        out.wishes.fill_(stop)
        parts = self._objective.parts(step, [shard])
        for number, part in enumerate(parts):
            loss, tallied = self._objective.share(self._net, part)
            if overlap is not None and part is parts[-1]:
                overlap.backward(loss, tallied, first=number == 0)
                return
            gradients = torch.autograd.grad(loss, self._parameters)
            if number == 0:
                out.set(gradients, loss.detach(), tallied)
            else:
                out.add(gradients, loss.detach(), tallied)


class Fast:
    """All shards of a worker at once; DDP across workers."""

    def __init__(self, net: nn.Module, objective: Objective, shares: Shares, rank: int) -> None:
        self._objective = objective
        self._own = shares.of(rank)
        self._workers = shares.workers
        self._gradient = FlatGradient.like(list(net.parameters()), objective.tally.size)
        self._gradient.attach(list(net.parameters()))
        self._net = DistributedDataParallel(net) if shares.workers > 1 else net

    def __call__(self, step: int, stop: bool = False) -> FlatGradient:
        self._gradient.flat.zero_()
        self._gradient.wishes.fill_(stop)
        parts = self._objective.parts(step, self._own)
        for part in parts:
            with nullcontext() if part is parts[-1] else self._unsynchronised():
                loss, tallied = self._objective.share(self._net, part)
                torch.autograd.backward(loss * self._workers)  # DDP divides by the number of workers
            self._gradient.loss.add_(loss.detach())
            self._gradient.tallied.add_(tallied)
        if self._workers > 1:
            dist.all_reduce(self._gradient.rest)
        return self._gradient

    def _unsynchronised(self) -> AbstractContextManager[None]:
        """DDP waits with its messages until the last microbatch."""
        return self._net.no_sync() if isinstance(self._net, DistributedDataParallel) else nullcontext()
