"""Bins of times, so that the terms L_t of many times become a few numbers that a person can follow."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion.process.schedule import NoiseSchedule

_ON_AN_EDGE = 1e-9
"""Of a bin's width: a time this close below an edge belongs above it, so that rounding does not decide."""


@dataclass(frozen=True, eq=False)
class TimeBins:
    """Which bin each index of a chain belongs to. B bins, numbered from the smallest times (the highest SNR) up."""

    of_index: Tensor
    """(T + 1,) int64 on the CPU: the bin of each index 2..T; -1 at 0 (the data) and at 1 (whose term is L_0)."""
    time: Tensor
    """(T + 1,) int64 on the CPU: the time in the full process that each index stands for."""
    log_snr: tuple[float, ...]
    """(B,), decreasing: the middle of each bin."""

    @property
    def count(self) -> int:
        """B. Some of them may be empty."""
        return len(self.log_snr)

    @property
    def T(self) -> int:
        """Number of steps of the chain."""
        return len(self.of_index) - 1

    @property
    def ranges(self) -> tuple[tuple[int, int] | None, ...]:
        """The first and last time of each bin, both in it; None for an empty one."""
        members = [self.time[self.of_index == b].tolist() for b in range(self.count)]
        return tuple((times[0], times[-1]) if times else None for times in members)

    def sums(self, terms: Tensor, index: Tensor | None = None) -> Tensor:
        """The terms of each bin, summed over dimension 1.

        Args:
            terms: (N, T - 1), for the indices 2..T as in `BoundTerms.L_t`; or (N, K, ..) with the `index` of each.
            index: LongTensor of the shape of `terms`, within 2..T, on the CPU.

        Returns:
            (N, B), or (N, .., B): 0 for an empty bin.

        Raises:
            ValueError: terms of another number of times, or not one index for each.
        """
        expected = (*terms.shape[:1], self.T - 1) if index is None else tuple(index.shape)
        if tuple(terms.shape) != expected:
            raise ValueError(
                f"the bins of a chain of {self.T} steps take terms of shape {expected}, got {tuple(terms.shape)}: "
                "make them for the chain that is measured, log_snr_bins(s.respaced(times))"
            )
        of_term = (self.of_index[2:] if index is None else self.of_index[index]).to(terms.device)
        # bin by bin, not by scatter: on a GPU the order of a scatter's sums, so their last bits, is left to chance
        return torch.stack([terms.where(of_term == b, 0).sum(dim=1) for b in range(self.count)], dim=-1)


def log_snr_bins(s: NoiseSchedule, count: int = 16) -> TimeBins:
    """Bins equally wide in log SNR, from that of index 2 down to that of index T.

    What the bound costs is spread over log SNR and not over t: there it does not depend on the schedule (Kingma et al.
    2021, section 5.1). A bin between two neighbouring times of a chain is empty, and a chain of one step has no L_t at
    all, so that each of its bins is.

    Args:
        s: the chain that is measured, respaced if the bound is.
        count: number of bins.

    Raises:
        ValueError: fewer than one bin.
    """
    if count < 1:
        raise ValueError(f"the number of bins must be 1 or more, got {count}")
    s = s.to("cpu")
    of_index = torch.full_like(s.time, -1)
    log_snr = torch.cat([s.log_snr[:-1], s.log_snr[-2:-1]]) if s.zero_snr else s.log_snr  # T shares the bin of T - 1
    top, below = log_snr[min(2, s.T)], log_snr[min(2, s.T)] - log_snr[2:]  # below: 0 at index 2, increasing
    width = below[-1:].sum() / count  # 0 if T is 1 or 2
    if s.T >= 2:
        tiny = torch.finfo(torch.float64).tiny
        of_index[2:] = (below / width.clamp(min=tiny) + _ON_AN_EDGE).long().clamp(max=count - 1)
    middles = top - width * (torch.arange(count, dtype=torch.float64) + 0.5)
    return TimeBins(of_index, s.time, tuple(middles.tolist()))
