"""Heun's method in sigma."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from diffusion.samplers.loop import Denoiser, Evaluation, Sampler, Step


@dataclass(frozen=True)
class Heun(Sampler):
    """x-bar_{i-1} = x-bar_i + (sigma_{i-1} - sigma_i) (d_i + d'_i) / 2, d' = eps_hat where Euler's step leads.

    Karras et al. 2022, algorithm 1, with sigma and x-bar as in `Euler`. Order 2, with two calls of the network per
    step; the last step, to sigma = 0, is Euler's with one, and so is the first if it begins at zero SNR.
    """

    def calls(self, steps: int) -> int:
        """At zero SNR one fewer."""
        return 2 * steps - 1

    def step(
        self, denoise: Denoiser, x_t: Tensor, i: int, draw: Callable[[], Tensor], past: Sequence[Evaluation]
    ) -> Step:
        s = denoise.s
        a, sigma = s.alpha_bar.sqrt(), (s.one_minus_alpha_bar / s.alpha_bar).sqrt()
        x_0_hat, d, _ = denoise(x_t, i)
        x_bar = x_0_hat + sigma[i - 1] * d
        if i > 1 and not (s.zero_snr and i == s.T):
            d_there = denoise(a[i - 1] * x_bar, i - 1).eps_hat
            x_bar = x_bar + (sigma[i - 1] - sigma[i]) * (d_there - d) / 2
        return Step(a[i - 1] * x_bar, x_0_hat)
