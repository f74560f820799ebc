"""Predictor and corrector: a step of any sampler, then Langevin steps at the time it reached."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from diffusion.samplers.ancestral import Ancestral
from diffusion.samplers.loop import Denoiser, Evaluation, Sampler, Step


@dataclass(frozen=True)
class PredictorCorrector(Sampler):
    """x <- x + e score + sqrt(2 e) z,   e = 2 alpha_t (snr ||z|| / ||score||)^2,   `corrections` times after each step.

    Song et al. 2021, algorithms 3 and 5 (VP), t being the time reached and the norms those of each image, so that no
    image depends on its batch. At t = 0 nothing is corrected. The predictor sees no earlier evaluations, since the
    corrected x does not lie on their path: one with memory takes its steps of order 1.
    """

    predictor: Sampler = field(default_factory=Ancestral)
    snr: float = 0.16
    """r, the ratio of signal to noise that a Langevin step aims at."""
    corrections: int = 1
    """M, Langevin steps per step."""

    def __post_init__(self) -> None:
        if not self.snr > 0 or self.corrections < 0:
            raise ValueError(f"snr must be positive and corrections 0 or more, got {self.snr} and {self.corrections}")

    @property
    def stochastic(self) -> bool:
        return self.corrections > 0 or self.predictor.stochastic

    def calls(self, steps: int) -> int:
        return self.predictor.calls(steps) + self.corrections * (steps - 1)

    def step(
        self, denoise: Denoiser, x_t: Tensor, i: int, draw: Callable[[], Tensor], past: Sequence[Evaluation]
    ) -> Step:
        x, x_0_hat, _ = self.predictor.step(denoise, x_t, i, draw, ())
        if i > 1:
            for _ in range(self.corrections):
                x = self._langevin(denoise, x, i - 1, draw())
        return Step(x, x_0_hat)

    def _langevin(self, denoise: Denoiser, x: Tensor, i: int, z: Tensor) -> Tensor:
        s = denoise.s
        score = -denoise(x, i).eps_hat / s.one_minus_alpha_bar[i].sqrt()
        e = 2 * s.alpha[i] * (self.snr * _norm(z) / _norm(score)) ** 2
        return x + e * score + (2 * e).sqrt() * z


def _norm(x: Tensor) -> Tensor:
    """||x|| of each image, (N, 1, 1, 1)."""
    norm: Tensor = x.flatten(1).norm(dim=1)
    return norm.reshape(-1, *[1] * (x.ndim - 1))
