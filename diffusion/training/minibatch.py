"""The images of one or more virtual shards at a step, with what is drawn for them, ready for a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from diffusion.process import to_unit
from diffusion.training.batches import Batches, Images
from diffusion.training.draws import draw, mirror
from diffusion.training.shard import ShardMaker, ShardSource
from diffusion.training.tensors import to_device
from diffusion.training.times import Times


@dataclass(frozen=True)
class Minibatch:
    """n images and what was drawn for them."""

    x_0: Tensor
    """(n, C, H, W) float32 in [-1, 1]."""
    t: Tensor
    """(n,) int64 in 1..T."""
    eps: Tensor
    """(n, C, H, W) float32, standard normal."""
    y: Tensor | None
    """(n,) int64: the classes, for a network that is told them."""
    weight: Tensor | None
    """(n,) float32: how much each loss counts for its time, 1 / (T p_t); None where all are 1."""
    at_first: tuple[bool, ...]
    """(n,), known to the host: which images are at t = 1, where the bound's term is L_0."""

    def __len__(self) -> int:
        return len(self.x_0)

    @property
    def first_rows(self) -> list[int]:
        """The images at t = 1."""
        return [row for row, first in enumerate(self.at_first) if first]

    def split(self, size: int | None) -> list[Minibatch]:
        """Parts of `size` neighbouring images; all of them in one part where it is None."""
        return [self._rows(slice(i, i + size)) for i in range(0, len(self), size)] if size else [self]

    def _rows(self, rows: slice) -> Minibatch:
        y = None if self.y is None else self.y[rows]
        weight = None if self.weight is None else self.weight[rows]
        return Minibatch(self.x_0[rows], self.t[rows], self.eps[rows], y, weight, self.at_first[rows])

    @classmethod
    def joined(cls, parts: Sequence[Minibatch]) -> Minibatch:
        """The images of several minibatches in one."""
        if len(parts) == 1:
            return parts[0]
        labels = [part.y for part in parts if part.y is not None]
        weights = [part.weight for part in parts if part.weight is not None]
        return cls(
            torch.cat([part.x_0 for part in parts]),
            torch.cat([part.t for part in parts]),
            torch.cat([part.eps for part in parts]),
            torch.cat(labels) if labels else None,
            torch.cat(weights) if weights else None,
            tuple(first for part in parts for first in part.at_first),
        )


@dataclass(frozen=True)
class Minibatches:
    """Makes the minibatch of any virtual shard at any step, from scratch."""

    images: Images
    levels: int
    """Grey levels of the images: 0..levels-1 becomes [-1, 1]."""
    batches: Batches
    times: Times
    flip: bool = False
    """Mirror each image with probability 1/2."""
    labelled: bool = False
    """Hand out the classes."""
    device: torch.device | str = "cpu"
    ahead: ShardSource | None = None
    """Makes the same shards ahead, in other processes; None: they are made when they are asked for."""

    def __post_init__(self) -> None:
        if self.labelled and self.images.labels is None:
            raise ValueError("the network is conditional on classes, but the images have no labels")

    def of(self, step: int, shards: Sequence[int]) -> Minibatch:
        """Neighbouring virtual shards of one step (counted from 0), joined in order."""
        return Minibatch.joined([self._shard(step, shard) for shard in shards])

    @cached_property
    def maker(self) -> ShardMaker:
        """Makes shards on the spot; on the CPU with their noise and flips, which a GPU draws itself."""
        return ShardMaker(self.images, self.batches, self.flip, draws=torch.device(self.device).type == "cpu")

    def close(self) -> None:
        """End the processes that make shards ahead, if there are any."""
        if self.ahead is not None:
            self.ahead.close()

    def _shard(self, step: int, shard: int) -> Minibatch:
        made = (self.ahead or self.maker)(step, shard)
        images = to_device(made.images, self.device)
        t = self.times.of(step, shard, len(images))
        weights = self.times.weights(step, t)
        seed = self.batches.seed
        draws = made.draws or draw(seed, step, shard, shape=images.shape, flip=self.flip, device=self.device)
        labels = self.images.labels if self.labelled else None
        return Minibatch(
            x_0=mirror(to_unit(images, self.levels), draws.flip),
            t=to_device(torch.from_numpy(t), self.device),
            eps=draws.eps,
            y=None
            if labels is None
            else to_device(torch.from_numpy(labels[self.batches.indices(step, shard)]), self.device),
            weight=None if weights is None else to_device(torch.from_numpy(weights.astype(np.float32)), self.device),
            at_first=tuple((t == 1).tolist()),
        )
