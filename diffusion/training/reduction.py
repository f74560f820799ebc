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
    """Each virtual shard alone, then the tree."""

    def __init__(self, net: nn.Module, objective: Objective, shares: Shares, rank: int) -> None:
        self._net = net
        self._objective = objective
        self._parameters = list(net.parameters())
        self._buffers = [FlatGradient.like(self._parameters, objective.tally.size) for _ in range(shares.buffers)]
        self._sum = TreeSum(shares, rank, [buffer.flat for buffer in self._buffers])

    def __call__(self, step: int, stop: bool = False) -> FlatGradient:
        self._sum(lambda shard, buffer: self._shard(step, shard, self._buffers[buffer], stop))
        return self._buffers[0]

    def _shard(self, step: int, shard: int, out: FlatGradient, stop: bool) -> None:
        """The gradient of one virtual shard, microbatch by microbatch, into `out`."""
        out.wishes.fill_(stop)
        for number, part in enumerate(self._objective.parts(step, [shard])):
            loss, tallied = self._objective.share(self._net, part)
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
