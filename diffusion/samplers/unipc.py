"""UniPC: a multistep predictor, and a corrector that costs no further call of the network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import factorial

import torch
from torch import Tensor

from diffusion.process.schedule import NoiseSchedule
from diffusion.samplers.loop import Denoiser, Evaluation, Sampler, Step


@dataclass(frozen=True)
class UniPC(Sampler):
    """UniP-p and UniC-p in data prediction, p = `order`. Zhao et al. 2023, algorithms 1 and 2.

    With a = sqrt(alpha_bar), b = sqrt(1 - alpha_bar), lambda = log(a / b), from a base index s to an index t, with
    h = lambda_t - lambda_s, m = x_0_hat and r_m = (lambda_m - lambda_s) / h of other times m at which m is known:

        x_t = b_t / b_s x_s - a_t (e^-h - 1) m_s - a_t sum_m c_m (m_m - m_s) / r_m
        sum_m c_m r_m^(k-1) = k! phi_k(-h) - 1,   k = 1, 2, .. as many as m
        phi_1(z) = (e^z - 1) / z,   phi_{k+1}(z) = (phi_k(z) - 1 / k!) / z

    The predictor goes from i to i - 1 with the p - 1 times before i. The corrector, one step later, takes that step
    again with its end among the times (r = 1). The paper's c_m are B(h) times its a_m, so that B(h) drops out, but for
    a single m: there a = 1/2, with B(h) = -h (bh1) or e^-h - 1 (bh2).

    The order is p + 1, and lower at the first steps and the last ones, as for `DPMSolver`. One call of the network per
    step. Through a time of zero SNR, lambda = -infinity, there is no polynomial: it is left out.
    """

    order: int = 3
    variant: str = "bh2"

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3):
            raise ValueError(f"order must be one of 1, 2, 3, got {self.order}")
        if self.variant not in ("bh1", "bh2"):
            raise ValueError(f"variant must be one of bh1, bh2, got {self.variant!r}")

    @property
    def memory(self) -> int:
        return self.order

    def step(
        self, denoise: Denoiser, x_t: Tensor, i: int, draw: Callable[[], Tensor], past: Sequence[Evaluation]
    ) -> Step:
        s = denoise.s
        x_0_hat = denoise(x_t, i).x_0_hat
        known = [e for e in past if not (s.zero_snr and e.i == s.T)]
        if known:
            order = min(self.order, i + 1)
            x_t = self._taken(s, known[0], i, [*known[1:order], Evaluation(i, x_t, x_0_hat)])
        order = min(self.order, i)
        x = self._taken(s, Evaluation(i, x_t, x_0_hat), i - 1, known[: order - 1])
        return Step(x, x_0_hat, x_t)

    def _taken(self, s: NoiseSchedule, base: Evaluation, t: int, others: Sequence[Evaluation]) -> Tensor:
        """x at index t, by the step from `base` with the differences at `others`."""
        a, b, lam = s.alpha_bar.sqrt(), s.one_minus_alpha_bar.sqrt(), s.log_snr / 2
        h = lam[t] - lam[base.i]
        x = b[t] / b[base.i] * base.x - a[t] * torch.expm1(-h) * base.x_0_hat
        if others:
            r = torch.stack([(lam[e.i] - lam[base.i]) / h for e in others])
            for factor, e in zip(self._c(h, r) / r, others, strict=True):
                x = x - a[t] * factor * (e.x_0_hat - base.x_0_hat)
        return x

    def _c(self, h: Tensor, r: Tensor) -> Tensor:
        """c_m of the times with these r_m."""
        if len(r) == 1:
            return (-h if self.variant == "bh1" else torch.expm1(-h))[None] / 2
        phi, right = torch.expm1(-h) / -h, []
        for k in range(1, len(r) + 1):
            right.append(factorial(k) * phi - 1)
            phi = (phi - 1 / factorial(k)) / -h
        powers = r ** torch.arange(len(r), device=r.device)[:, None]
        c: Tensor = torch.linalg.solve(powers, torch.stack(right))
        return c
