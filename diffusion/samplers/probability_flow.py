"""The probability-flow ODE by a method that chooses its own steps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion.samplers.loop import Denoiser, Evaluation, Sampler, Step


@dataclass(frozen=True)
class ProbabilityFlow(Sampler):
    """d x-bar / d sigma = eps_hat, with sigma and x-bar as in `Euler`. Song et al. 2021, eq. 13, in sigma.

    Between neighbouring times of the chain it is solved by scipy's RK45 (Dormand and Prince, order 5) within the
    tolerances, in float64, the whole interval tried first. The network is asked between the chain's times, where the
    full process has that sigma. The step to t = 0 is Euler's, and so is one from zero SNR. The solver's steps are
    common to the batch, so that an image depends on its batch within the tolerance.
    """

    rtol: float = 1e-5
    atol: float = 1e-5

    def __post_init__(self) -> None:
        if not (self.rtol > 0 and self.atol > 0):
            raise ValueError(f"rtol and atol must be positive, got {self.rtol} and {self.atol}")

    def calls(self, steps: int) -> int:
        """Not known before: `Counted` counts them.

        Raises:
            ValueError: always.
        """
        raise ValueError("the calls of an adaptive sampler are not known before: give `sample` a `Counted` model")

    def step(
        self, denoise: Denoiser, x_t: Tensor, i: int, draw: Callable[[], Tensor], past: Sequence[Evaluation]
    ) -> Step:
        from scipy.integrate import solve_ivp

        s = denoise.s
        a, sigma = s.alpha_bar.sqrt(), (s.one_minus_alpha_bar / s.alpha_bar).sqrt()
        if i == 1 or (s.zero_snr and i == s.T):
            x_0_hat, d, _ = denoise(x_t, i)
            return Step(a[i - 1] * (x_0_hat + sigma[i - 1] * d), x_0_hat)
        images: list[Tensor] = []

        def slope(at: float, x_bar: NDArray[np.float64]) -> NDArray[np.float64]:
            x = torch.from_numpy(x_bar).to(x_t.device).view(x_t.shape) / (1 + at**2) ** 0.5
            x_0_hat, eps_hat, _ = denoise.at_log_snr(x.to(x_t.dtype), -2 * float(np.log(at)))
            if not images:
                images.append(x_0_hat)
            d: NDArray[np.float64] = eps_hat.double().flatten().cpu().numpy()
            return d

        begin, end = float(sigma[i]), float(sigma[i - 1])
        x_bar = (x_t.double() / a[i]).flatten().cpu().numpy()
        solved = solve_ivp(
            slope, (begin, end), x_bar, "RK45", [end], rtol=self.rtol, atol=self.atol, first_step=begin - end
        )
        if not solved.success:
            raise ValueError(f"the probability flow was not solved below t = {s.time[i].item()}: {solved.message}")
        x = torch.from_numpy(solved.y[:, -1]).to(x_t.device).view(x_t.shape) * a[i - 1]
        return Step(x.to(x_t.dtype), images[0])
