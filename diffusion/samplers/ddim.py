"""DDIM: a family of samplers with the same marginals and less noise."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from diffusion.process.schedule import at
from diffusion.samplers.loop import Denoiser, Step


@dataclass(frozen=True)
class DDIM:
    """x_{t-1} = sqrt(a-bar_{t-1}) x_0_hat + sqrt(1 - a-bar_{t-1} - sigma_t^2) eps_hat + sigma_t z.

    Song, Meng & Ermon 2021, eq. 12, with a-bar for alpha_bar and sigma_t^2 = eta^2 beta_tilde_t (eq. 16): eta = 1 is
    the ancestral sampler with the small variance, eta = 0 is deterministic. Order 1.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], got {self.eta}")

    def step(self, denoise: Denoiser, x_t: Tensor, i: int, draw: Callable[[], Tensor]) -> Step:
        s = denoise.s
        x_0_hat, eps_hat, _ = denoise(x_t, i)
        t, previous = denoise.index(i, x_t), denoise.index(i - 1, x_t)
        variance = self.eta**2 * s.beta_tilde[t]
        rest = (s.one_minus_alpha_bar[previous] - variance).clamp(min=0)
        x = at(s.alpha_bar.sqrt(), previous, x_t) * x_0_hat + _per_image(rest.sqrt(), x_t) * eps_hat
        if self.eta > 0 and i > 1:
            x = x + _per_image(variance.sqrt(), x_t) * draw()
        return Step(x, x_0_hat)


def _per_image(coefficient: Tensor, x: Tensor) -> Tensor:
    return coefficient.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
