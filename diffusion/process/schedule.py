"""The noise schedule: how much of the image is left at each time.

Times run t = 1..T and index 0 is the data, so every table has length T + 1 and alpha_bar[0] = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, log, pi

import numpy as np
import torch
from torch import Tensor

_LEAST_LOG_ALPHA_BAR = 2 * log(torch.finfo(torch.float32).tiny)
_ALMOST_NOTHING = 1e-20
"""Far below what float32 can tell from 0 beside 1, far above where its inverse would overflow."""


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """A chain x_0 -> x_1 -> .. -> x_T, given by log alpha_bar_t in float64.

    Everything else follows from this one table; differences such as 1 - alpha_bar_t are taken with expm1, because in
    the plain form they lose most of their digits at small t.

    `respaced` gives the same process seen at fewer times, `interpolated` also at times between whole ones. Such a chain
    is a schedule like any other; it only remembers in `time` which time of the full process each index stands for,
    since that is the t the network was trained on.

    alpha_bar_T may be 0 (Lin et al. 2024: zero terminal SNR). Then x_T is noise alone, so that a predicted eps or score
    says nothing about x_0 there; x_0 and v do.
    """

    log_alpha_bar: Tensor
    """(T + 1,) float64: the sum of log alpha_1 .. log alpha_t; 0 at index 0, strictly decreasing, -inf at most at T."""
    time: Tensor
    """(T + 1,): the time in the full process; int64, 0..T unless respaced; float64 if interpolated."""

    def __post_init__(self) -> None:
        table = self.log_alpha_bar
        if table.ndim != 1 or len(table) < 2 or table.dtype != torch.float64:
            got = f"{table.dtype} {tuple(table.shape)}"
            raise ValueError(f"log_alpha_bar must be float64 of length T + 1 >= 2, got {got}")
        if table[0] != 0 or not bool((table.diff() < 0).all()):
            raise ValueError("log_alpha_bar must start at 0 and decrease strictly: every beta_t must lie in (0, 1)")
        least = float(table[table > -inf][-1])
        if least < _LEAST_LOG_ALPHA_BAR:
            raise ValueError(
                f"log alpha_bar = {least:.4g} is so low that sqrt(alpha_bar) is 0 in float32: "
                f"use smaller betas or fewer steps, so that it stays above {_LEAST_LOG_ALPHA_BAR:.4g}"
            )

    # -- constructors ---------------------------------------------------------------------------------------------

    @classmethod
    def from_log_alpha_bar(cls, log_alpha_bar: Tensor) -> NoiseSchedule:
        """From the primary table, (T + 1,) float64, as stored in a model file."""
        return cls(log_alpha_bar, torch.arange(len(log_alpha_bar), device=log_alpha_bar.device))

    @classmethod
    def from_betas(cls, betas: Tensor | Sequence[float]) -> NoiseSchedule:
        """From beta_1 .. beta_T, each in (0, 1). Ho et al. 2020, eq. 2 and 4: alpha_bar_t = prod (1 - beta_i)."""
        betas = torch.as_tensor(betas, dtype=torch.float64)
        if betas.ndim != 1 or len(betas) == 0:
            raise ValueError(f"betas must be a list beta_1 .. beta_T, got shape {tuple(betas.shape)}")
        bad = ~((betas > 0) & (betas < 1))
        if bad.any():
            t = int(bad.nonzero()[0])
            raise ValueError(f"beta_{t + 1} = {float(betas[t])} must lie in (0, 1)")
        return cls.from_log_alpha_bar(torch.cat([betas.new_zeros(1), torch.log1p(-betas).cumsum(0)]))

    @classmethod
    def linear(
        cls, T: int = 1000, beta_1: float = 1e-4, beta_T: float = 0.02, *, rescale: bool = True
    ) -> NoiseSchedule:
        """beta_t linear in t (Ho et al. 2020, section 4).

        With `rescale`, beta_1 and beta_T are those of the process with 1000 steps, and a T other than 1000 gives that
        same process seen at T equally spaced times (log alpha_bar interpolated linearly between its steps). Without,
        they are the first and last variance of the T steps themselves, so that another T is another process.
        """
        _check_T(T)
        if not rescale:
            return cls.from_betas(torch.linspace(beta_1, beta_T, T, dtype=torch.float64))
        full = cls.from_betas(torch.linspace(beta_1, beta_T, 1000, dtype=torch.float64)).log_alpha_bar
        if T == 1000:
            return cls.from_log_alpha_bar(full)
        position = torch.arange(T + 1, dtype=torch.float64) * 1000 / T
        below = position.floor().long().clamp(max=999)
        return cls.from_log_alpha_bar(torch.lerp(full[below], full[below + 1], position - below))

    @classmethod
    def cosine(cls, T: int = 1000, *, offset: float = 0.008, beta_max: float = 0.999) -> NoiseSchedule:
        """alpha_bar_t a squared cosine, beta_t at most `beta_max` (Nichol & Dhariwal 2021, eq. 17)."""
        _check_T(T)
        u = torch.arange(T + 1, dtype=torch.float64) / T
        f = torch.cos((u + offset) / (1 + offset) * pi / 2) ** 2
        return cls.from_betas((1 - f[1:] / f[:-1]).clamp(max=beta_max))

    @classmethod
    def log_snr_linear(cls, T: int = 1000, *, log_snr_max: float = 7.0, log_snr_min: float = -7.0) -> NoiseSchedule:
        """log SNR linear in t, from `log_snr_max` at t = 1 to `log_snr_min` at t = T >= 2.

        alpha_bar = sigmoid(log SNR). Under this schedule the unweighted loss L_simple is, up to its scale, the bound's
        own weighting (Kingma et al. 2021, section 5.1).
        """
        _check_T(T, least=2)
        if not log_snr_min < log_snr_max:
            raise ValueError(f"log_snr_min ({log_snr_min}) must be below log_snr_max ({log_snr_max})")
        log_snr = torch.linspace(log_snr_max, log_snr_min, T, dtype=torch.float64)
        return cls.from_log_alpha_bar(torch.cat([log_snr.new_zeros(1), torch.nn.functional.logsigmoid(log_snr)]))

    # -- views ----------------------------------------------------------------------------------------------------

    def respaced(self, times: Sequence[int] | Tensor | None) -> NoiseSchedule:
        """The same process seen only at `times`, strictly decreasing within T..1; None means all of them.

        beta and beta_tilde of the result belong to the pairs of neighbouring times, with the data as the last
        neighbour. The smallest time need not be 1.
        """
        if times is None:
            return self
        listed = torch.as_tensor(times, device="cpu")
        if listed.dtype == torch.bool or (listed.is_floating_point() and listed.numel()):
            raise ValueError(f"times must be whole numbers (`interpolated` takes others), got {_shortened(listed)}")
        index = self._ascending(listed.long())
        return NoiseSchedule(self.log_alpha_bar[index], self.time[index])

    def interpolated(self, times: Sequence[float] | Tensor) -> NoiseSchedule:
        """The same process seen at `times`, strictly decreasing within T..1, whole or not.

        Between neighbouring whole times log SNR is linear in t. Between the data and t = 1, where it is infinite at one
        end, there are no times; nor are there between T - 1 and T at zero terminal SNR.
        """
        position = self._ascending(torch.as_tensor(times, dtype=torch.float64, device="cpu"))
        below = position.long()
        whole, above = position == below, (below + 1).clamp(max=self.T)
        if self.zero_snr and bool((position[-1] > self.T - 1) & ~whole[-1]):
            raise ValueError(
                f"there are no times between T - 1 and T = {self.T} of zero SNR, got {float(position[-1])}"
            )
        share = position - below
        between = torch.nn.functional.logsigmoid(torch.lerp(self.log_snr[below], self.log_snr[above], share))
        time = torch.lerp(self.time[below].double(), self.time[above].double(), share)
        return NoiseSchedule(torch.where(whole, self.log_alpha_bar[below], between), time)

    def time_at(self, log_snr: Sequence[float]) -> list[float]:
        """When the process has these log SNRs, the inverse of `interpolated`; 1 or T for those beyond its ends."""
        falling = -self.log_snr[1:].cpu().numpy()
        times: list[float] = np.interp(-np.asarray(log_snr), falling, self.time[1:].cpu().numpy()).tolist()
        return times

    def rescaled_to_zero_snr(self) -> NoiseSchedule:
        """sqrt(alpha_bar_t) shifted to be 0 at T and scaled to keep its value at t = 1. Lin et al. 2024, algorithm 1.

        With a_t = sqrt(alpha_bar_t): a'_t = (a_t - a_T) a_1 / (a_1 - a_T), here without cancellation at small t.
        """
        if self.T < 2 or self.zero_snr:
            raise ValueError("only a schedule of two or more steps that ends above zero SNR can be rescaled to it")
        after = self.log_alpha_bar[1:]
        shift = torch.log1p(-((after[-1] - after) / 2).exp())
        return NoiseSchedule(torch.cat([self.log_alpha_bar[:1], after + 2 * (shift - shift[0])]), self.time)

    def above_zero_snr(self) -> NoiseSchedule:
        """The same, with next to nothing in place of an alpha_bar_T of 0.

        For tables that would be 0 and infinity at T and of which only the product is used: it is then its limit.
        """
        if not self.zero_snr:
            return self
        last = self.log_alpha_bar[-2:-1] + log(_ALMOST_NOTHING)
        return NoiseSchedule(torch.cat([self.log_alpha_bar[:-1], last]), self.time)

    def to(self, device: torch.device | str) -> NoiseSchedule:
        """The same tables on another device, to save copies in a loop."""
        return NoiseSchedule(self.log_alpha_bar.to(device), self.time.to(device))

    # -- tables, each (T + 1,) float64, index 0 is the data -----------------------------------------------------------

    @property
    def T(self) -> int:
        """Number of steps."""
        return len(self.log_alpha_bar) - 1

    @cached_property
    def zero_snr(self) -> bool:
        """Whether alpha_bar_T is 0, so that x_T is noise alone."""
        return bool(self.log_alpha_bar[-1] == -inf)

    @cached_property
    def alpha_bar(self) -> Tensor:
        """Share of the signal's variance left: alpha_bar_t = alpha_1 .. alpha_t."""
        return self.log_alpha_bar.exp()

    @cached_property
    def one_minus_alpha_bar(self) -> Tensor:
        """Variance of the noise in x_t given x_0, without cancellation."""
        return torch.expm1(self.log_alpha_bar).abs()  # abs, not minus: at index 0 that would be -0

    @cached_property
    def log_alpha(self) -> Tensor:
        """log alpha_t = log alpha_bar_t - log alpha_bar_{t-1}; 0 at index 0."""
        return torch.cat([self.log_alpha_bar[:1], self.log_alpha_bar.diff()])

    @cached_property
    def alpha(self) -> Tensor:
        """alpha_t = 1 - beta_t."""
        return self.log_alpha.exp()

    @cached_property
    def beta(self) -> Tensor:
        """Variance of step t, q(x_t | x_{t-1})."""
        return torch.expm1(self.log_alpha).abs()

    @cached_property
    def beta_tilde(self) -> Tensor:
        """Variance of q(x_{t-1} | x_t, x_0), eq. 7; 0 at t = 1 (and at index 0)."""
        previous = torch.cat([self.one_minus_alpha_bar[:1], self.one_minus_alpha_bar[:-1]])
        ratio = previous / self.one_minus_alpha_bar
        return torch.cat([previous[:1], ratio[1:] * self.beta[1:]])

    @cached_property
    def snr(self) -> Tensor:
        """Signal-to-noise ratio alpha_bar_t / (1 - alpha_bar_t); infinite at index 0."""
        return self.alpha_bar / self.one_minus_alpha_bar

    @cached_property
    def log_snr(self) -> Tensor:
        """Its logarithm."""
        return self.log_alpha_bar - self.one_minus_alpha_bar.log()

    def _ascending(self, times: Tensor) -> Tensor:
        """A chain's positions in this one: 0 and the given decreasing times, on this schedule's device."""
        if times.ndim != 1 or len(times) == 0 or not bool((times.diff() < 0).all()):
            raise ValueError(f"times must be a strictly decreasing list, got {_shortened(times)}")
        if not (1 <= float(times[-1]) and float(times[0]) <= self.T):
            raise ValueError(f"times must lie in 1..{self.T}, got {_shortened(times)}")
        return torch.cat([times, times.new_zeros(1)]).flip(0).to(self.log_alpha_bar.device)


def at(table: Tensor, t: Tensor, x: Tensor) -> Tensor:
    """table[t] for each image of the batch, shaped (N, 1, 1, 1) to multiply x, in x's dtype.

    The tables stay float64 until here: coefficients are rounded once, as the last thing (in bfloat16 alpha_bar itself
    would round to 1 for small t).
    """
    return table.to(t.device)[t].to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def check_times(s: NoiseSchedule, t: Tensor, x: Tensor) -> None:
    """Refuse a t that is not a LongTensor (N,) in 1..T; the range only on the CPU, elsewhere the check would wait."""
    if t.dtype != torch.int64 or t.shape != x.shape[:1]:
        raise ValueError(f"t must be a LongTensor of shape ({len(x)},), got {t.dtype} {tuple(t.shape)}")
    if t.device.type == "cpu" and len(t) and not (1 <= int(t.min()) and int(t.max()) <= s.T):
        raise ValueError(f"times must lie in 1..{s.T}, got {_shortened(t)}")


def _check_T(T: int, least: int = 1) -> None:
    if T < least:
        raise ValueError(f"T must be at least {least}, got {T}")


def _shortened(times: Tensor) -> str:
    numbers = times.flatten().tolist()
    return str(numbers) if len(numbers) <= 8 else f"[{', '.join(map(str, numbers[:6]))}, .. {numbers[-1]}]"
