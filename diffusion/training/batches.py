"""Which images a step sees: a function of the step, computed and never stored.

The images of all epochs stand in one endless row, epoch after epoch, each epoch in its own permutation. Step s takes
the next B of them, and virtual shard v of the V takes B / V neighbours, so image j of that shard has position

    p = s B + v B / V + j,    epoch p // n,    index permutation(epoch)[p % n].

A batch may run from one epoch into the next; no image is dropped or seen twice within an epoch.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from diffusion.training.random import numbers


class Images(Protocol):
    """What training needs from a data set."""

    def __len__(self) -> int:
        """n, the number of images."""

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """(n,): the class of each image; None if there are none."""

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images (len(indices), C, H, W) in levels 0..levels-1."""


@dataclass(frozen=True)
class Batches:
    """The order of the images over all steps."""

    images: int
    """n, the number of training images."""
    batch_size: int
    """B, images per step."""
    shards: int
    """V, virtual shards per batch."""
    seed: int
    _cache: dict[int, NDArray[np.int64]] = field(default_factory=dict, repr=False, compare=False)
    """The permutations of the last epochs asked for; a shard touches at most two."""

    def __post_init__(self) -> None:
        if self.batch_size % self.shards:
            raise ValueError(f"batch_size ({self.batch_size}) must be a multiple of virtual_shards ({self.shards})")
        if self.images < self.batch_size:
            raise ValueError(
                f"there are {self.images} training images, fewer than one batch: train.batch_size is "
                f"{self.batch_size}; lower it to {self.images} or less, or add images"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """Sent to another process, it goes without the permutations."""
        return Batches, (self.images, self.batch_size, self.shards, self.seed)

    @property
    def shard_size(self) -> int:
        """B / V, images per virtual shard."""
        return self.batch_size // self.shards

    def indices(self, step: int, shard: int) -> NDArray[np.int64]:
        """The images of one virtual shard at one step (counted from 0), int64 (B / V,)."""
        first = step * self.batch_size + shard * self.shard_size
        epoch, start = divmod(first, self.images)
        here = self._permutation(epoch)[start : start + self.shard_size]
        if len(here) == self.shard_size:
            return here
        return np.concatenate([here, self._permutation(epoch + 1)[: self.shard_size - len(here)]])

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        """A permutation of 0..n-1 that depends on the seed and the epoch only."""
        if epoch not in self._cache:
            for old in sorted(self._cache)[:-1]:
                del self._cache[old]
            self._cache[epoch] = numbers(self.seed, "order", epoch).permutation(self.images)
        return self._cache[epoch]
