"""The images of one or more virtual shards at a step, with what is drawn for them, ready for a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion.process import to_unit
from diffusion.training.batches import Batches, Images
from diffusion.training.draws import Draws, draw, mirror


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

    def __len__(self) -> int:
        return len(self.x_0)

    def split(self, size: int | None) -> list[Minibatch]:
        """Parts of `size` neighbouring images; all of them in one part where it is None."""
        return [self._rows(i, i + size) for i in range(0, len(self), size)] if size else [self]

    def _rows(self, start: int, stop: int) -> Minibatch:
        y = None if self.y is None else self.y[start:stop]
        return Minibatch(self.x_0[start:stop], self.t[start:stop], self.eps[start:stop], y)

    @classmethod
    def joined(cls, parts: Sequence[Minibatch]) -> Minibatch:
        """The images of several minibatches in one."""
        if len(parts) == 1:
            return parts[0]
        labels = [part.y for part in parts if part.y is not None]
        return cls(
            torch.cat([part.x_0 for part in parts]),
            torch.cat([part.t for part in parts]),
            torch.cat([part.eps for part in parts]),
            torch.cat(labels) if labels else None,
        )


@dataclass(frozen=True)
class Minibatches:
    """Makes the minibatch of any virtual shard at any step, from scratch."""

    images: Images
    levels: int
    """Grey levels of the images: 0..levels-1 becomes [-1, 1]."""
    batches: Batches
    T: int
    flip: bool = False
    """Mirror each image with probability 1/2."""
    labelled: bool = False
    """Hand out the classes."""
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        if self.labelled and self.images.labels is None:
            raise ValueError("the network is conditional on classes, but the images have no labels")

    def of(self, step: int, shards: Sequence[int]) -> Minibatch:
        """Neighbouring virtual shards of one step (counted from 0), joined in order."""
        return Minibatch.joined([self._shard(step, shard) for shard in shards])

    def draws(self, step: int, shard: int, shape: Sequence[int]) -> Draws:
        """What is drawn for one shard with images of `shape` (n, C, H, W)."""
        return draw(self.batches.seed, step, shard, T=self.T, shape=shape, flip=self.flip, device=self.device)

    def _shard(self, step: int, shard: int) -> Minibatch:
        indices = self.batches.indices(step, shard)
        images = self._to_device(self.images.read(indices))
        draws = self.draws(step, shard, images.shape)
        labels = self.images.labels if self.labelled else None
        y = None if labels is None else self._to_device(labels[indices])
        return Minibatch(mirror(to_unit(images, self.levels), draws.flip), draws.t, draws.eps, y)

    def _to_device(self, array: NDArray[Any]) -> Tensor:
        """The array as a tensor there; a GPU takes it from page-locked memory, so that the host need not wait."""
        tensor = torch.from_numpy(array)
        if torch.device(self.device).type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)
