"""Messages between two workers of the default process group.

Gloo, unlike NCCL, sends and receives in the host's memory only. Where it serves workers on a GPU, as it must where
several share one, their messages go through the host. A copy changes no bit.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def send(tensor: Tensor, to: int) -> None:
    """Send it; waits until it is gone, or on its stream."""
    dist.send(_carried(tensor), dst=to)


def receive(tensor: Tensor, sender: int) -> None:
    """Overwrite it with what `sender` sends."""
    there = _room(tensor)
    dist.recv(there, src=sender)
    _arrive(tensor, there)


def exchange(ours: Tensor, theirs: Tensor, partner: int) -> None:
    """Send `ours`, and overwrite `theirs` with what the partner sends meanwhile.

    The receive comes first: gloo lets the partner send when it has been told that there is room, and that word would
    wait behind all of `ours`, so that the two ways were used one after the other.
    """
    there = _room(theirs)
    messages = [dist.P2POp(dist.irecv, there, partner), dist.P2POp(dist.isend, _carried(ours), partner)]
    for message in dist.batch_isend_irecv(messages):
        message.wait()
    _arrive(theirs, there)


def _carried(tensor: Tensor) -> Tensor:
    return tensor.cpu() if _through_host(tensor) else tensor


def _room(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="cpu") if _through_host(tensor) else tensor


def _arrive(tensor: Tensor, there: Tensor) -> None:
    if there is not tensor:
        tensor.copy_(there)


def _through_host(tensor: Tensor) -> bool:
    return tensor.is_cuda and dist.get_backend() == "gloo"
