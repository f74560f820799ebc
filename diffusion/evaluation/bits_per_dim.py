"""The bound of many images, summed up: a mean with its standard error for each term and for each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffusion.evaluation.statistics import Estimate, Spread
from diffusion.process import BoundTerms, TimeBins

Float64s = NDArray[np.float64]


@dataclass(frozen=True)
class BoundEstimates:
    """The mean over images of the bound and of its terms, in bits/dim."""

    L_T: Estimate
    L_t_sum: Estimate
    L_0: Estimate
    total: Estimate
    L_t_bins: tuple[Estimate, ...]
    """The parts of L_t_sum, one for each bin of times."""


@dataclass(frozen=True, eq=False)
class BitsPerDim:
    """The bound of N images in bits/dim: its terms for each image, and statistics over the images for each time.

    What is kept grows with the number of images and with the number of times, but not with their product.
    """

    L_T: Float64s
    """(N,)."""
    L_t_sum: Float64s
    """(N,): the sum of L_t over its times."""
    L_0: Float64s
    """(N,)."""
    times: NDArray[np.int64]
    """(S,), increasing: the times that were visited."""
    L_t: Spread
    """Over the N images, one quantity for each time in `t`."""
    L_t_bins: Float64s
    """(N, B): the sums of L_t over the times of each bin."""
    bins: TimeBins
    """Which times they have."""

    @classmethod
    def of(cls, terms: BoundTerms, bins: TimeBins) -> BitsPerDim:
        """Of one chunk of images.

        Args:
            bins: of the chain that was measured.
        """
        L_t = terms.L_t.cpu().double().numpy()
        return cls(
            L_T=terms.L_T.cpu().double().numpy(),
            L_t_sum=L_t.sum(axis=1),
            L_0=terms.L_0.cpu().double().numpy(),
            times=terms.times.cpu().numpy(),
            L_t=Spread.of(L_t),
            L_t_bins=bins.sums(terms.L_t.cpu().double()).numpy(),
            bins=bins,
        )

    @classmethod
    def joined(cls, parts: Sequence[BitsPerDim]) -> BitsPerDim:
        """Of all chunks, in their order.

        Raises:
            ValueError: no chunk, or chunks measured at different times.
        """
        if not parts:
            raise ValueError("the bound needs at least one image")
        if any(not np.array_equal(part.times, parts[0].times) for part in parts):
            raise ValueError("all chunks must be measured at the same times")
        return cls(
            L_T=np.concatenate([part.L_T for part in parts]),
            L_t_sum=np.concatenate([part.L_t_sum for part in parts]),
            L_0=np.concatenate([part.L_0 for part in parts]),
            times=parts[0].times,
            L_t=Spread.pooled(part.L_t for part in parts),
            L_t_bins=np.concatenate([part.L_t_bins for part in parts]),
            bins=parts[0].bins,
        )

    @property
    def t(self) -> NDArray[np.int64]:
        """(S - 1,), increasing: the times that have an L_t, all but the first."""
        return self.times[1:]

    @property
    def total(self) -> Float64s:
        """(N,): the bound of each image."""
        return self.L_T + self.L_t_sum + self.L_0

    def estimates(self) -> BoundEstimates:
        """Means over the images with their standard errors.

        Raises:
            ValueError: a single image, or a term that is not finite.
        """
        return BoundEstimates(
            L_T=Estimate.of(self.L_T),
            L_t_sum=Estimate.of(self.L_t_sum),
            L_0=Estimate.of(self.L_0),
            total=Estimate.of(self.total),
            L_t_bins=tuple(Estimate.of(part) for part in self.L_t_bins.T),
        )
