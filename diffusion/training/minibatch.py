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
from diffusion.training.draws import LabelDropout, draw, mirror
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
    told: Tensor | None = None
    """(n,) float32: how much each term counts in the running bound, which is that of a network that is told the class:
    0 where the label is left out, 1 / (1 - the share of those) elsewhere; None where none is left out."""

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
        y, weight, told = (None if each is None else each[rows] for each in (self.y, self.weight, self.told))
        return Minibatch(self.x_0[rows], self.t[rows], self.eps[rows], y, weight, self.at_first[rows], told)

    @classmethod
    def joined(cls, parts: Sequence[Minibatch]) -> Minibatch:
        """The images of several minibatches in one."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            torch.cat([part.x_0 for part in parts]),
            torch.cat([part.t for part in parts]),
            torch.cat([part.eps for part in parts]),
            _joined([part.y for part in parts]),
            _joined([part.weight for part in parts]),
            tuple(first for part in parts for first in part.at_first),
            _joined([part.told for part in parts]),
        )


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    there = [part for part in parts if part is not None]
    return torch.cat(there) if there else None


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
    label_dropout: LabelDropout | None = None
    """Hand out the null label for some of them; None: for none."""
    device: torch.device | str = "cpu"
    ahead: ShardSource | None = None
    """Makes the same shards ahead, in other processes; None: they are made when they are asked for."""

    def __post_init__(self) -> None:
        if self.labelled and self.images.labels is None:
            raise ValueError("the network is conditional on classes, but the images have no labels")
        if self.label_dropout and not self.labelled:
            raise ValueError("label_dropout is set, but no classes are handed out that could be left out")

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
        y, told = self._labels(step, shard, len(images))
        return Minibatch(
            x_0=mirror(to_unit(images, self.levels), draws.flip),
            t=to_device(torch.from_numpy(t), self.device),
            eps=draws.eps,
            y=y,
            weight=None if weights is None else to_device(torch.from_numpy(weights.astype(np.float32)), self.device),
            at_first=tuple((t == 1).tolist()),
            told=told,
        )

    def _labels(self, step: int, shard: int, n: int) -> tuple[Tensor | None, Tensor | None]:
        """y and `told` of a shard with n images."""
        if not self.labelled:
            return None, None
        assert self.images.labels is not None
        labels, dropout = self.images.labels[self.batches.indices(step, shard)], self.label_dropout
        if dropout is None:
            return to_device(torch.from_numpy(labels), self.device), None
        without = dropout.untold(self.batches.seed, step, shard, n)
        y = torch.from_numpy(np.where(without, dropout.null_label, labels))
        told = torch.from_numpy(np.where(without, 0, 1 / (1 - dropout.share)).astype(np.float32))
        return to_device(y, self.device), to_device(told, self.device)
