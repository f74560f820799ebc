"""Data whose best network is known: each pixel for itself from a mixture of Gaussians."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion.process import NoiseSchedule


@dataclass(frozen=True)
class Mixture:
    """sum_k w_k N(m_k, s_k^2), seen through a schedule. The methods `eps`, `x_0` and `v` are models (x_t, t)."""

    s: NoiseSchedule
    weights: tuple[float, ...] = (0.3, 0.7)
    means: tuple[float, ...] = (-0.6, 0.5)
    deviations: tuple[float, ...] = (0.15, 0.25)

    @classmethod
    def gaussian(cls, s: NoiseSchedule, mean: float = 0.3, deviation: float = 0.5) -> Mixture:
        return cls(s, (1.0,), (mean,), (deviation,))

    def eps(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.eps_at(x_t, self._log_snr(t))

    def x_0(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.x_0_at(x_t, self._log_snr(t))

    def v(self, x_t: Tensor, t: Tensor) -> Tensor:
        a, b = _signal_and_noise(self._log_snr(t))
        return a * self.eps(x_t, t) - b * self.x_0(x_t, t)

    def eps_at(self, x_t: Tensor, log_snr: Tensor) -> Tensor:
        """(x_t - a E[x_0 | x_t]) / b."""
        a, b = _signal_and_noise(log_snr)
        return (x_t - a * self.x_0_at(x_t, log_snr)) / b

    def x_0_at(self, x_t: Tensor, log_snr: Tensor) -> Tensor:
        """E[x_0 | x_t]: m_k + a s_k^2 / (a^2 s_k^2 + b^2) (x_t - a m_k), weighted by how likely each component is."""
        m, s = (torch.tensor(values, dtype=x_t.dtype, device=x_t.device) for values in (self.means, self.deviations))
        a, b = _signal_and_noise(log_snr)
        share = self._log_joint(x_t, log_snr).softmax(dim=-1)
        return (share * (m + a * s**2 / (a**2 * s**2 + b**2) * (x_t[..., None] - a * m))).sum(dim=-1)

    def component(self, k: int) -> Mixture:
        """The class k alone."""
        return Mixture.gaussian(self.s, self.means[k], self.deviations[k])

    def logits(self, x_t: Tensor, t: Tensor) -> Tensor:
        """log p(k | x_t) up to a constant, (N, K), for images of one pixel."""
        return self._log_joint(x_t, self._log_snr(t)).flatten(0, -2)

    def pull(self, k: int) -> Callable[[Tensor, Tensor], Tensor]:
        """grad log p(k | x_t), pixel by pixel: the score of the class minus that of the mixture."""
        told = self.component(k)

        def gradient(x_t: Tensor, t: Tensor) -> Tensor:
            _, b = _signal_and_noise(self._log_snr(t))
            return (self.eps(x_t, t) - told.eps(x_t, t)) / b

        return gradient

    def _log_joint(self, x_t: Tensor, log_snr: Tensor) -> Tensor:
        """log w_k N(x_t; a m_k, a^2 s_k^2 + b^2) up to a constant, in a last dimension."""
        w, m, s = (
            torch.tensor(values, dtype=x_t.dtype, device=x_t.device)
            for values in (self.weights, self.means, self.deviations)
        )
        a, b = _signal_and_noise(log_snr)
        V = a**2 * s**2 + b**2
        return w.log() - V.log() / 2 - (x_t[..., None] - a * m) ** 2 / V / 2

    def cdf(self, x: Tensor) -> Tensor:
        """Of the data."""
        w, m, s = (torch.tensor(values, dtype=x.dtype) for values in (self.weights, self.means, self.deviations))
        return (w * torch.special.ndtr((x[..., None] - m) / s)).sum(dim=-1)

    def flow(self, x: Tensor, begin: Tensor, end: Tensor) -> Tensor:
        """Where the probability flow of one Gaussian leads between two log SNRs: (x - a m) / sd(x) stays as it is."""
        (m,), (s,) = self.means, self.deviations
        (a, b), (a_end, b_end) = _signal_and_noise(begin), _signal_and_noise(end)
        return a_end * m + ((a_end**2 * s**2 + b_end**2) / (a**2 * s**2 + b**2)).sqrt() * (x - a * m)

    def _log_snr(self, t: Tensor) -> Tensor:
        """Of the one time of the batch, whole or not."""
        time = t[0].item()
        assert bool((t == time).all())
        return self.s.interpolated([time]).log_snr[1] if t.is_floating_point() else self.s.log_snr[int(time)]


def _signal_and_noise(log_snr: Tensor) -> tuple[Tensor, Tensor]:
    return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()


def columns(*x: float) -> Tensor:
    """(N, 1, 1, 1) float64: images of one pixel."""
    return torch.tensor(x, dtype=torch.float64).view(-1, 1, 1, 1)
