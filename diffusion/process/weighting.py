"""How much each time counts in the training loss.

Every weighting states w_t with loss = w_t ||eps - eps_hat||^2, whatever the network predicts: the error of another
target is a multiple of that one (`eps_error_scale`), so that the published forms, which are given for different
targets, can be compared. Kingma & Gao 2023 do the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from diffusion.process.parameterization import Target, eps_error_scale
from diffusion.process.reverse import Variance
from diffusion.process.schedule import NoiseSchedule
from diffusion.process.step_term import bound_weight


class Weighting(Protocol):
    """w_t of every time."""

    formula: str
    """For a picture's legend."""

    def of_eps(self, s: NoiseSchedule) -> Tensor:
        """w_t, (T + 1,) float64, 0 at index 0."""
        ...


@dataclass(frozen=True)
class Plain:
    """Weight 1 on the error of what the network predicts: for eps L_simple (Ho et al. 2020, eq. 14)."""

    target: Target | str = Target.EPS
    formula = "1, of the network's own target"

    def of_eps(self, s: NoiseSchedule) -> Tensor:
        scale = eps_error_scale(s, self.target)
        scale[1:] = 1 / scale[1:]
        return scale


@dataclass(frozen=True)
class SNR:
    """SNR(t) ||x_0 - x_0_hat||^2 = ||eps - eps_hat||^2. Salimans & Ho 2022, section 4."""

    formula = "SNR, of x_0"

    def of_eps(self, s: NoiseSchedule) -> Tensor:
        return eps_error_scale(s, Target.EPS)


@dataclass(frozen=True)
class MinSNR:
    """min(SNR(t), gamma) ||x_0 - x_0_hat||^2. Hang et al. 2023, section 3.4."""

    gamma: float = 5.0
    formula = "min(SNR, γ), of x_0"

    def of_eps(self, s: NoiseSchedule) -> Tensor:
        snr = s.above_zero_snr().snr
        weight = snr.clamp(max=self.gamma) / snr
        weight[:1].zero_()
        return weight


@dataclass(frozen=True)
class P2:
    """||eps - eps_hat||^2 / (k + SNR(t))^gamma. Choi et al. 2022, eq. 8."""

    gamma: float = 1.0
    k: float = 1.0
    formula = "1 / (k + SNR)^γ, of ε"

    def of_eps(self, s: NoiseSchedule) -> Tensor:
        return (self.k + s.snr) ** -self.gamma  # SNR is infinite at index 0


@dataclass(frozen=True)
class BoundWeight:
    """T beta_t^2 / (2 sigma_t^2 alpha_t (1 - alpha_bar_t)) ||eps - eps_hat||^2. Ho et al. 2020, eq. 12.

    With the factor T a mean over uniformly drawn times is the sum of all L_t. At t = 1 the bound has L_0, which is no
    multiple of this error; the weight of t = 2 stands in for it, so that the network is trained there too.
    """

    variance: Variance | str = Variance.SMALL
    formula = "T βₜ² / (2 σₜ² αₜ (1 − ᾱₜ)), of ε"

    def of_eps(self, s: NoiseSchedule) -> Tensor:
        weight = s.T * bound_weight(s, self.variance)
        if s.T > 1:
            weight[1] = weight[2]
        return weight
