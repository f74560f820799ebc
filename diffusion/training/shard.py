"""What of a virtual shard does not depend on the state of the training, so that another process can make it ahead.

That is its images and, on the CPU, its noise and flips. Its times may depend on the losses before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from diffusion.training.batches import Batches, Images
from diffusion.training.draws import Draws, draw


@dataclass(frozen=True)
class Shard:
    """The n images of one virtual shard at one step."""

    images: Tensor
    """(n, C, H, W) uint8 on the host, in levels 0..levels-1."""
    draws: Draws | None
    """On the host; None where the network's device draws them itself."""


class ShardSource(Protocol):
    """Where shards come from: made on the spot, or made ahead."""

    def __call__(self, step: int, shard: int) -> Shard:
        """Any shard of any step (counted from 0), whatever was asked for before."""

    def close(self) -> None:
        """End what makes shards ahead. It begins anew if a shard is asked for all the same."""


@dataclass(frozen=True)
class ShardMaker:
    """Makes any shard on the spot. Small to send to another process, if its images are."""

    images: Images
    batches: Batches
    flip: bool
    """Draw which images are mirrored."""
    draws: bool
    """Draw noise and flips here, with the numbers of the CPU."""

    def __call__(self, step: int, shard: int) -> Shard:
        images = self.images.read(self.batches.indices(step, shard))
        draws = draw(self.batches.seed, step, shard, shape=images.shape, flip=self.flip) if self.draws else None
        return Shard(torch.from_numpy(images), draws)

    def close(self) -> None:
        """Nothing runs."""
