"""DPM-Solver++: the ODE in log SNR, x_0_hat a polynomial through the last few times."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion.samplers.loop import Denoiser, Evaluation, Sampler, Step


@dataclass(frozen=True)
class DPMSolver(Sampler):
    """DPM-Solver++, multistep, in data prediction. Lu et al. 2022b, algorithm 2; order 3 after the authors' code.

    With a = sqrt(alpha_bar), b = sqrt(1 - alpha_bar), lambda = log(a / b), the step h = lambda_{i-1} - lambda_i, those
    before it h_0 = lambda_i - lambda_{i+1} and h_1 = lambda_{i+1} - lambda_{i+2}, and m_k = x_0_hat at index i + k:

        order 1   x_{i-1} = b_{i-1} / b_i x_i - a_{i-1} (e^-h - 1) m_0
        order 2   that - a_{i-1} (e^-h - 1) / 2 D_0,   D_k = h / h_k (m_k - m_{k+1})
        order 3   that of order 1 + a_{i-1} ((e^-h - 1) / h + 1) D' - a_{i-1} ((e^-h - 1 + h) / h^2 - 1/2) D'',
                  D' = D_0 + h_0 / (h_0 + h_1) (D_0 - D_1),   D'' = 2 h / (h_0 + h_1) (D_0 - D_1)

    D' and D'' stand for h and h^2 times the derivatives of x_0_hat in lambda. The authors' code has D'' without its 2,
    and with that the measured order is 2, not 3.

    The order is no more than the steps taken so far and those left allow: the first step and the last one, to zero
    noise, have order 1 (which is DDIM with eta = 0). One call of the network per step.
    """

    order: int = 2

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3):
            raise ValueError(f"order must be one of 1, 2, 3, got {self.order}")

    @property
    def memory(self) -> int:
        return self.order - 1

    def step(
        self, denoise: Denoiser, x_t: Tensor, i: int, draw: Callable[[], Tensor], past: Sequence[Evaluation]
    ) -> Step:
        s = denoise.s
        a, b, lam = s.alpha_bar.sqrt(), s.one_minus_alpha_bar.sqrt(), s.log_snr / 2
        m = [denoise(x_t, i).x_0_hat, *(e.x_0_hat for e in past)]
        h = lam[i - 1] - lam[i]
        shrunk = torch.expm1(-h)
        x = b[i - 1] / b[i] * x_t - a[i - 1] * shrunk * m[0]
        order = min(self.order, i, len(m))
        if order == 1:
            return Step(x, m[0])
        h_0 = lam[i] - lam[i + 1]
        D_0 = h / h_0 * (m[0] - m[1])
        if order == 2:
            return Step(x - a[i - 1] * shrunk / 2 * D_0, m[0])
        h_1 = lam[i + 1] - lam[i + 2]
        D_1 = h / h_1 * (m[1] - m[2])
        slope = D_0 + h_0 / (h_0 + h_1) * (D_0 - D_1)
        bend = 2 * h / (h_0 + h_1) * (D_0 - D_1)
        x = x + a[i - 1] * (shrunk / h + 1) * slope - a[i - 1] * ((shrunk + h) / h**2 - 0.5) * bend
        return Step(x, m[0])
