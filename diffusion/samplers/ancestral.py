"""The ancestral sampler: draw from p_theta(x_{t-1} | x_t)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from diffusion.process.reverse import Variance, p_reverse
from diffusion.samplers.loop import Denoiser, Evaluation, Sampler, Step


@dataclass(frozen=True)
class Ancestral(Sampler):
    """x_{t-1} = mu_theta(x_t, t) + sigma_t z. Ho et al. 2020, algorithm 2.

    The variance is read from the table that the bound reads. No noise at the last step, so that on N(0, I) data with
    the large variance and the best network the result has variance 1 - beta_1, not 1.

    A guide moves the mean: mu_theta + sigma_t^2 s grad log p(y | x_t), Dhariwal & Nichol 2021, algorithm 1, sigma_t^2
    being the variance of this step of the chain.
    """

    variance: Variance | str = Variance.SMALL

    @property
    def stochastic(self) -> bool:
        return True

    def step(
        self, denoise: Denoiser, x_t: Tensor, i: int, draw: Callable[[], Tensor], past: Sequence[Evaluation]
    ) -> Step:
        x_0_hat, _, v = denoise.unguided(x_t, i)
        p = p_reverse(denoise.s, x_t, denoise.index(i, x_t), x_0_hat, self.variance, v)
        pull = denoise.pull(x_t, i)
        mean = p.mean if pull is None else p.mean + p.variance * pull
        return Step(mean if i == 1 else mean + p.variance.sqrt() * draw(), x_0_hat)
