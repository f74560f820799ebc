"""The reconstruction term L_0 = -log p(x_0 | x_1): three decoders.

L_0 is a negative log-likelihood, not a KL: q(x_0 | x_1, x_0) is a point. It is taken at the first time of the chain,
t = 1 unless the process begins later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from diffusion.process.gaussian import gaussian_log_density, log_normal_interval
from diffusion.process.levels import check_on_levels, on_levels


@dataclass(frozen=True)
class FirstStep:
    """What a decoder may look at."""

    x_1: Tensor
    """The chain's first latent, (N, C, H, W)."""
    alpha_bar_1: Tensor
    """Its alpha_bar, (N, 1, 1, 1) float64."""
    one_minus_alpha_bar_1: Tensor
    """The variance of its noise, (N, 1, 1, 1) float64; given apart, since the difference would lose digits."""
    mean: Tensor
    """mu_theta(x_1, 1), (N, C, H, W)."""
    variance: Tensor
    """sigma_1^2, (N, 1, 1, 1), or of each pixel."""


class Decoder(Protocol):
    """p(x_0 | x_1)."""

    reads_network: ClassVar[bool]
    """Whether it depends on the network's prediction at t = 1, so that L_0 trains it."""

    def check(self, x_0: Tensor) -> None:
        """Raise ValueError for images that it gives no probability. Waits for the device."""
        ...

    def log_likelihood(self, x_0: Tensor, first: FirstStep) -> Tensor:
        """log p(x_0 | x_1) in nats, elementwise, (N, C, H, W) float64."""
        ...


@dataclass(frozen=True)
class DiscretizedGaussian:
    """N(mu_theta(x_1, 1), sigma_1^2) integrated over the bin of each level. Ho et al. 2020, eq. 13.

    The bins of the lowest and highest level are open, so the probabilities of all levels sum to 1.
    """

    levels: int = 256
    reads_network: ClassVar[bool] = True

    def check(self, x_0: Tensor) -> None:
        check_on_levels(x_0, self.levels)

    def log_likelihood(self, x_0: Tensor, first: FirstStep) -> Tensor:
        x_0, mean, sigma = on_levels(x_0, self.levels), first.mean.double(), first.variance.double().sqrt()
        half_bin = 1.0 / (self.levels - 1)
        lower, upper = (x_0 - half_bin - mean) / sigma, (x_0 + half_bin - mean) / sigma
        lower = torch.where(x_0 < -1 + half_bin, -torch.inf, lower)
        upper = torch.where(x_0 > 1 - half_bin, torch.inf, upper)
        return log_normal_interval(lower, upper)


@dataclass(frozen=True)
class NormalizedLevels:
    """p(x_0 | x_1) proportional to q(x_1 | x_0), normalised over the levels of each pixel. Kingma et al. 2021, eq. 4.

    It looks at x_1 alone and not at the network; it is tight once x_1 shows which level a pixel has.
    """

    levels: int = 256
    reads_network: ClassVar[bool] = False

    def check(self, x_0: Tensor) -> None:
        check_on_levels(x_0, self.levels)

    def log_likelihood(self, x_0: Tensor, first: FirstStep) -> Tensor:
        x_0 = on_levels(x_0, self.levels)
        x_1, signal = first.x_1.double(), first.alpha_bar_1.double().sqrt()
        precision = 1 / first.one_minus_alpha_bar_1.double()

        def log_q(level: Tensor | float) -> Tensor:
            return -0.5 * precision * (x_1 - signal * level) ** 2

        total = torch.full_like(x_1, -torch.inf)
        for v in range(self.levels):  # level by level: memory stays that of one batch
            total = torch.logaddexp(total, log_q(2 * v / (self.levels - 1) - 1))
        return log_q(x_0) - total


@dataclass(frozen=True)
class GaussianDensity:
    """log N(x_0; mu_theta(x_1, 1), sigma_1^2 I): a density, for continuous data and as a check (Chan 2024)."""

    reads_network: ClassVar[bool] = True

    def check(self, x_0: Tensor) -> None:
        pass

    def log_likelihood(self, x_0: Tensor, first: FirstStep) -> Tensor:
        return gaussian_log_density(x_0.double(), first.mean.double(), first.variance.double())
