"""Euler's method in sigma."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from diffusion.samplers.loop import Denoiser, Evaluation, Sampler, Step


@dataclass(frozen=True)
class Euler(Sampler):
    """x-bar_{i-1} = x-bar_i + (sigma_{i-1} - sigma_i) d_i,   d_i = (x-bar_i - x_0_hat) / sigma_i = eps_hat.

    Karras et al. 2022, algorithm 1 without its lines 6 to 8, with sigma = sqrt((1 - alpha_bar) / alpha_bar) and x-bar =
    x / sqrt(alpha_bar). Order 1; the same as DDIM with eta = 0. It is taken as x_0_hat + sigma_{i-1} d_i, which holds
    from sigma = infinity (zero SNR) down.
    """

    def step(
        self, denoise: Denoiser, x_t: Tensor, i: int, draw: Callable[[], Tensor], past: Sequence[Evaluation]
    ) -> Step:
        s = denoise.s
        sigma = (s.one_minus_alpha_bar / s.alpha_bar).sqrt()
        x_0_hat, d, _ = denoise(x_t, i)
        x_bar = x_0_hat + sigma[i - 1] * d
        return Step(s.alpha_bar[i - 1].sqrt() * x_bar, x_0_hat)
