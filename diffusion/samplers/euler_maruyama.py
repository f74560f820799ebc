"""The reverse-time SDE by the method of Euler and Maruyama."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from diffusion.samplers.loop import Denoiser, Evaluation, Sampler, Step


@dataclass(frozen=True)
class EulerMaruyama(Sampler):
    """x_{i-1} = x_i + B_i (x_i / 2 + score) + sqrt(B_i) z,   score = -eps_hat / sqrt(1 - alpha_bar_i).

    Song et al. 2021, eq. 6 with the drift -beta(t) x / 2 and the diffusion sqrt(beta(t)) of their eq. 11 (VP). B_i is
    the integral of beta(t) over the step: exp(-B_i) = alpha_i of the chain. Weak order 1; no noise at the last step.
    The SDE does not reach zero SNR, where B would be infinite.
    """

    @property
    def stochastic(self) -> bool:
        return True

    def step(
        self, denoise: Denoiser, x_t: Tensor, i: int, draw: Callable[[], Tensor], past: Sequence[Evaluation]
    ) -> Step:
        s = denoise.s
        if s.zero_snr and i == s.T:
            raise ValueError("the SDE does not reach zero SNR: give times that begin below T, or another sampler")
        x_0_hat, eps_hat, _ = denoise(x_t, i)
        B = -s.log_alpha[i]
        score = -eps_hat / s.one_minus_alpha_bar[i].sqrt()
        x = x_t + B * (x_t / 2 + score)
        return Step(x if i == 1 else x + B.sqrt() * draw(), x_0_hat)
