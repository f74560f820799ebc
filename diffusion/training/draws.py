"""What is drawn for a virtual shard at a step besides its times: noise, flips, labels that are left out, dropout.

Functions of (seed, step, shard) only. So they do not depend on the worker that computes the shard, on what ran before,
or on how the shards are reduced.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion.training.random import generator, key, numbers


@dataclass(frozen=True)
class Draws:
    """The random numbers of one shard of n images, on the device that needs them."""

    eps: Tensor
    """(n, C, H, W) float32, standard normal."""
    flip: Tensor | None
    """(n,) bool: which images are mirrored; None where flips are off."""


def draw(
    seed: int, step: int, shard: int, *, shape: Sequence[int], flip: bool, device: torch.device | str = "cpu"
) -> Draws:
    """The draws of one shard; `shape` is that of its images, (n, C, H, W).

    They are drawn where they are needed. CPU and CUDA give different numbers, so a run belongs to one kind of device.
    """
    n, size, position = shape[0], tuple(shape), (seed, "train", step, shard)
    if torch.device(device).type == "cpu":
        rng = numbers(*position)
        eps = torch.from_numpy(rng.standard_normal(size, dtype=np.float32))
        return Draws(eps, torch.from_numpy(rng.random(n) < 0.5) if flip else None)
    source = generator(*position, device=device)
    eps = torch.randn(size, generator=source, device=device)
    return Draws(eps, torch.rand(n, generator=source, device=device) < 0.5 if flip else None)


def mirror(images: Tensor, flip: Tensor | None) -> Tensor:
    """Images (n, C, H, W) with those of `flip` (n,) turned left to right."""
    if flip is None:
        return images
    return torch.where(flip[:, None, None, None], images.flip(-1), images)


@dataclass(frozen=True)
class LabelDropout:
    """Leaves labels out at random. Ho & Salimans 2022, algorithm 1."""

    share: float
    """p_uncond, in (0, 1): of the images whose class the network is not told."""
    null_label: int
    """What it is told instead."""

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"the share of labels that are left out must lie in (0, 1), got {self.share}")

    def untold(self, seed: int, step: int, shard: int, n: int) -> NDArray[np.bool_]:
        """(n,): which images of one shard go without; drawn on the host, so the same for every device."""
        return numbers(seed, "label-dropout", step, shard).random(n) < self.share


def seed_dropout(seed: int, step: int, shard: int) -> None:
    """Seed torch's global generators for the forward pass of one shard: dropout then needs no generator of its own.

    On the CPU torch keeps 32 bits of a seed, so two shards of a very long run may share a mask, which does no harm.
    """
    torch.manual_seed(key(seed, "dropout", step, shard) % 2**63)
