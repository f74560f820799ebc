"""What is drawn for a virtual shard at a step: times, noise, flips, dropout. Functions of (seed, step, shard) only.

So they do not depend on the worker that computes the shard, on what ran before, or on how the shards are reduced.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion.training.random import generator, key


@dataclass(frozen=True)
class Draws:
    """The random numbers of one shard of n images, on the device that needs them."""

    t: Tensor
    """(n,) int64, uniform in 1..T."""
    eps: Tensor
    """(n, C, H, W) float32, standard normal."""
    flip: Tensor | None
    """(n,) bool: which images are mirrored; None where flips are off."""


def draw(
    seed: int, step: int, shard: int, *, T: int, shape: Sequence[int], flip: bool, device: torch.device | str = "cpu"
) -> Draws:
    """The draws of one shard; `shape` is that of its images, (n, C, H, W).

    CPU and CUDA generators give different numbers, so a run belongs to one kind of device.
    """
    source = generator(seed, "train", step, shard, device=device)
    t = torch.randint(1, T + 1, (shape[0],), generator=source, device=device)
    eps = torch.randn(tuple(shape), generator=source, device=device)
    mirrored = torch.rand(shape[0], generator=source, device=device) < 0.5 if flip else None
    return Draws(t, eps, mirrored)


def mirror(images: Tensor, flip: Tensor | None) -> Tensor:
    """Images (n, C, H, W) with those of `flip` (n,) turned left to right."""
    if flip is None:
        return images
    return torch.where(flip[:, None, None, None], images.flip(-1), images)


def seed_dropout(seed: int, step: int, shard: int) -> None:
    """Seed torch's global generators for the forward pass of one shard: dropout then needs no generator of its own."""
    torch.manual_seed(key(seed, "dropout", step, shard))
