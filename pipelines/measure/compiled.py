"""A network compiled for batches of one size."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Compiled(nn.Module):
    """`net`, compiled once for `size` images (and once for each multiple of it that is asked for).

    Smaller batches are filled up with zeros: another shape would be compiled anew. On a CPU the weights are kept
    channels last, as its convolutions compute. On a GPU the kernels of a call are recorded as one CUDA graph and
    started together, which pays most for small networks.
    """

    def __init__(self, net: nn.Module, size: int) -> None:
        super().__init__()
        graphs = next(net.parameters()).is_cuda
        self.net = net if graphs else copy.deepcopy(net).to(memory_format=torch.channels_last)
        self.size = size
        self.run = torch.compile(self.net, dynamic=False, mode="reduce-overhead" if graphs else "default")

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """As the network's own."""
        n = len(x_t)
        room = -n % self.size
        x = x_t if x_t.is_cuda else x_t.contiguous(memory_format=torch.channels_last)
        output: Tensor = self.run(*(_filled(value, room) for value in ((x, t) if y is None else (x, t, y))))
        return output[:n].clone()  # a CUDA graph writes its next output to the same place


def compiled(net: nn.Module, size: int) -> Compiled:
    """The network, compiled for batches of `size` images at its first call."""
    return Compiled(net, size)


def _filled(rows: Tensor, room: int) -> Tensor:
    return F.pad(rows, [0, 0] * (rows.ndim - 1) + [0, room]) if room else rows
