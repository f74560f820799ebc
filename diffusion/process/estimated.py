"""An estimated bound: of each image, and its mean over images with two answers to how far it may be off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from diffusion.process.bins import TimeBins


@dataclass(frozen=True)
class Estimated:
    """A mean over images of an estimated quantity, in bits/dim, with two answers to how far it may be off.

    Both are without bias in their squares. A normal interval of 1.96 of them needs enough draws of the terms that
    matter: where few times carry the bound (small t of a linear schedule), a hundred images are too few for it.
    """

    mean: float
    standard_error: float
    """From the value of the population that the images are drawn from: sample standard deviation over the images by
    sqrt(N). It has the spread between images in it, and the drawing of times and of noise."""
    sampling_error: float
    """From the exact value of these very images: sqrt(sum_n (a_n - b_n)^2 / 4) / N with a and b the two replicates.
    It has the drawing of times in it, and that of the noise where `noise` is no function of image and time."""


@dataclass(frozen=True)
class EstimatedBound:
    """The mean over images of the bound and of its terms.

    The exact value, for `sampling_error`, is what `bound` gives with the same noise for each image and time. L_T and
    L_0 are exact in that sense, and have 0 there. That L_0 rests on one draw of noise for each image, as it does in
    `bound`, is in its standard error alone.
    """

    L_T: Estimated
    L_t_sum: Estimated
    L_0: Estimated
    total: Estimated
    L_t_bins: tuple[Estimated, ...]
    """The parts of L_t_sum, one for each bin."""


@dataclass(frozen=True, eq=False)
class EstimatedTerms:
    """The estimated bound of each of N images, in bits per dimension."""

    L_T: Tensor
    """(N,) float64: KL(q(x_T | x_0) || N(0, I)), exact."""
    L_0: Tensor
    """(N,) float64: -log p_theta(x_0 | x_1) for the noise that x_1 was made with, as `bound` has it."""
    replicates: Tensor
    """(2, N, B) float64: the sum of L_t over the times of each bin, estimated twice independently."""
    bins: TimeBins
    """Which times the B bins have."""
    calls: int
    """Of the network, for each image."""

    @classmethod
    def joined(cls, parts: Sequence[EstimatedTerms]) -> EstimatedTerms:
        """Of all chunks of images, in their order.

        Raises:
            ValueError: no chunk, or chunks estimated with other calls or bins.
        """
        if not parts:
            raise ValueError("the bound needs at least one image")
        if len({(part.calls, part.bins.ranges) for part in parts}) > 1:
            raise ValueError("all chunks must be estimated with the same number of calls and the same bins")
        L_T, L_0 = torch.cat([part.L_T for part in parts]), torch.cat([part.L_0 for part in parts])
        replicates = torch.cat([part.replicates for part in parts], dim=1)
        return cls(L_T, L_0, replicates, parts[0].bins, parts[0].calls)

    @property
    def L_t_bins(self) -> Tensor:
        """(N, B): the sum of L_t over the times of each bin."""
        return self.replicates.mean(dim=0)

    @property
    def L_t_sum(self) -> Tensor:
        """(N,): the sum of L_t over all times."""
        return self.L_t_bins.sum(dim=1)

    @property
    def total(self) -> Tensor:
        """(N,): the bound."""
        return self.L_T + self.L_t_sum + self.L_0

    def estimates(self) -> EstimatedBound:
        """Means over the images with their errors.

        Raises:
            ValueError: a single image, which has no standard error.
        """
        N = len(self.L_T)
        if N < 2:
            raise ValueError(f"a standard error needs two or more images, got {N}")
        named = torch.stack([self.L_T, self.L_t_sum, self.L_0, self.total], dim=1)
        values = torch.cat([named, self.L_t_bins], dim=1)
        apart = self.replicates[0] - self.replicates[1]
        sampled = apart.sum(dim=1)
        exact = torch.zeros_like(sampled)
        apart = torch.cat([torch.stack([exact, sampled, exact, sampled], dim=1), apart], dim=1)
        errors = values.std(dim=0) / sqrt(N), (apart**2 / 4).sum(dim=0).sqrt() / N
        columns = torch.stack([values.mean(dim=0), *errors], dim=1).tolist()
        L_T, L_t_sum, L_0, total, *bins = (Estimated(*column) for column in columns)
        return EstimatedBound(L_T, L_t_sum, L_0, total, tuple(bins))
