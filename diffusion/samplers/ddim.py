"""DDIM: a family of samplers with the same marginals and less noise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from diffusion.samplers.loop import Denoiser, Evaluation, Sampler, Step


@dataclass(frozen=True)
class DDIM(Sampler):
    """x_{t-1} = sqrt(a-bar_{t-1}) x_0_hat + sqrt(1 - a-bar_{t-1} - sigma_t^2) eps_hat + sigma_t z.

    Song, Meng & Ermon 2021, eq. 12, with a-bar for alpha_bar and sigma_t^2 = eta^2 beta_tilde_t (eq. 16): eta = 1 is
    the ancestral sampler with the small variance, eta = 0 is deterministic. Order 1.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], got {self.eta}")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def step(
        self, denoise: Denoiser, x_t: Tensor, i: int, draw: Callable[[], Tensor], past: Sequence[Evaluation]
    ) -> Step:
        s = denoise.s
        x_0_hat, eps_hat, _ = denoise(x_t, i)
        variance = self.eta**2 * s.beta_tilde[i]
        rest = (s.one_minus_alpha_bar[i - 1] - variance).clamp(min=0)
        x = s.alpha_bar[i - 1].sqrt() * x_0_hat + rest.sqrt() * eps_hat
        if self.eta > 0 and i > 1:
            x = x + variance.sqrt() * draw()
        return Step(x, x_0_hat)
