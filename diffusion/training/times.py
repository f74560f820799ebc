"""Which time each image of a batch is noised to, and how much its loss counts for that.

A mean over uniformly drawn times is what training minimises. Any distribution p_t gives the same mean, in expectation,
if an image at time t counts 1 / (T p_t); it only changes how much the mean scatters. Times are small integers, so they
are drawn on the host whatever the device: the host then knows without a wait which images are at t = 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion.training.random import numbers
from diffusion.training.tensors import copy_into

Ints = NDArray[np.int64]
Float64s = NDArray[np.float64]


class Times(Protocol):
    """A way to draw times."""

    T: int

    def of(self, step: int, shard: int, n: int) -> Ints:
        """(n,) in 1..T: the times of one virtual shard with n images at one step (counted from 0)."""
        ...

    def weights(self, step: int, t: Ints) -> Float64s | None:
        """(n,): 1 / (T p_t) at one step; None where all are 1."""
        ...

    def observe(self, step: int, squares: Tensor, counts: Tensor) -> None:
        """Learn from a step (counted from 0), on every worker alike.

        Args:
            squares, counts: (T + 1,) on the device: for each time the sum of squared losses, and how many there were.
        """
        ...

    def tensors(self) -> dict[str, Tensor]:
        """What has been learned, not copied; empty where nothing is."""
        ...

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` gave."""
        ...


class UniformTimes:
    """Every image alone: t uniform in 1..T."""

    def __init__(self, T: int, seed: int) -> None:
        self.T = T
        self._seed = seed

    def of(self, step: int, shard: int, n: int) -> Ints:
        return numbers(self._seed, "times", step, shard).integers(1, self.T + 1, n)

    def weights(self, step: int, t: Ints) -> Float64s | None:
        return None

    def observe(self, step: int, squares: Tensor, counts: Tensor) -> None:
        pass

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        pass


class StratifiedTimes(UniformTimes):
    """The whole batch together: u_k = (U + k / B) mod 1 for its images k, with one U per step; t = 1 + floor(T u).

    Each t is uniform, but a batch is spread evenly over the times, so that the mean over it scatters less. Kingma et
    al. 2021, appendix I.1 (low-discrepancy sampler). Image j of virtual shard v is number j V + v.
    """

    def __init__(self, T: int, seed: int, shards: int) -> None:
        super().__init__(T, seed)
        self._shards = shards

    def of(self, step: int, shard: int, n: int) -> Ints:
        return self._at(step, self._spread(step, shard, n))

    def _spread(self, step: int, shard: int, n: int) -> Float64s:
        """(n,) in [0, 1): the u of one shard."""
        position = (np.arange(n) * self._shards + shard) / (n * self._shards)
        spread: Float64s = (numbers(self._seed, "times", step).random() + position) % 1.0
        return spread

    def _at(self, step: int, u: Float64s) -> Ints:
        return 1 + np.minimum((u * self.T).astype(np.int64), self.T - 1)


class ImportanceTimes(StratifiedTimes):
    """p_t proportional to sqrt(E[L_t^2]), with L_t the loss at time t. Nichol & Dhariwal 2021, section 3.3.

    The second moment of each time is a moving average over about its last `visits` losses; until every time has been
    seen that often p_t is uniform. A thousandth of p_t stays uniform always, so that no weight is without bound. What
    is learned is the same on every worker, and part of the state: it is computed from sums over the whole batch. The
    distribution changes every tenth step, which is the only time that the host waits for the device here. The one
    before is kept for those who ask once more what was drawn before the last change.
    """

    every = 10
    """Steps between two distributions."""
    visits = 10.0
    uniform_share = 1e-3

    def __init__(self, T: int, seed: int, shards: int, device: torch.device | str = "cpu") -> None:
        super().__init__(T, seed, shards)
        self._pending = torch.zeros(2, T + 1, dtype=torch.float64, device=device)
        """Sums of squared losses, and their number, since the last change."""
        self._moment = torch.zeros(T + 1, dtype=torch.float64)
        self._seen = torch.zeros(T + 1, dtype=torch.float64)
        self._probability = self._uniform()
        self._before = self._uniform()
        """The distribution before the last change."""
        self._since = torch.zeros((), dtype=torch.int64)
        """The first step after that change."""

    @property
    def probability(self) -> Float64s:
        """(T + 1,): p_t that is in force; 0 at index 0."""
        return self._probability.numpy()

    def weights(self, step: int, t: Ints) -> Float64s | None:
        weights: Float64s = 1 / (self.T * self._in_force(step)[t])
        return weights

    def observe(self, step: int, squares: Tensor, counts: Tensor) -> None:
        self._pending += torch.stack([squares, counts])
        if (step + 1) % self.every:
            return
        squares, counts = self._pending.cpu()
        if counts.any():  # ten steps that were left out change nothing, and the first of them can still be asked for
            self._before.copy_(self._probability)
            self._since.fill_(step + 1)
            self._learn(squares, counts)
        self._pending.zero_()

    def tensors(self) -> dict[str, Tensor]:
        return {
            "pending": self._pending,
            "moment": self._moment,
            "seen": self._seen,
            "probability": self._probability,
            "before": self._before,
            "since": self._since,
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        copy_into(self.tensors(), tensors, "the distribution of times")

    def _at(self, step: int, u: Float64s) -> Ints:
        cumulative = self._in_force(step).cumsum(0)
        t: Ints = np.searchsorted(cumulative, u * cumulative[-1], side="right").astype(np.int64)
        return np.clip(t, 1, self.T)

    def _in_force(self, step: int) -> Float64s:
        """(T + 1,): p_t at a step, which may be one before the last change."""
        return (self._probability if step >= self._since else self._before).numpy()

    def _learn(self, squares: Tensor, counts: Tensor) -> None:
        """Take in the losses since the last change, and change p_t."""
        fresh = 1 - (1 - 1 / self.visits) ** counts
        fresh = torch.where(self._seen > 0, fresh, (counts > 0).double())
        self._moment.lerp_(squares / counts.clamp(min=1), fresh)
        self._seen += counts
        uniform = self._uniform()
        if not bool((self._seen[1:] >= self.visits).all()):
            self._probability.copy_(uniform)
        else:
            root = self._moment.sqrt()
            self._probability.copy_((1 - self.uniform_share) * root / root.sum() + self.uniform_share * uniform)

    def _uniform(self) -> Tensor:
        uniform = torch.full((self.T + 1,), 1 / self.T, dtype=torch.float64)
        uniform[0] = 0
        return uniform
