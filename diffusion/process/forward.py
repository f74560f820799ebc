"""The forward process: a fixed chain that turns an image into noise."""

from torch import Tensor

from diffusion.process.gaussian import Gaussian
from diffusion.process.schedule import NoiseSchedule, at, check_times


def q_sample(s: NoiseSchedule, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps. Ho et al. 2020, eq. 4.

    Args:
        x_0: (N, C, H, W) in [-1, 1].
        t: LongTensor (N,) in 1..T.
        eps: (N, C, H, W), standard normal.
    """
    check_times(s, t, x_0)
    return at(s.alpha_bar.sqrt(), t, x_0) * x_0 + at(s.one_minus_alpha_bar.sqrt(), t, x_0) * eps


def q_marginal(s: NoiseSchedule, x_0: Tensor, t: Tensor) -> Gaussian:
    """q(x_t | x_0) = N(sqrt(alpha_bar_t) x_0, (1 - alpha_bar_t) I). Ho et al. 2020, eq. 4."""
    check_times(s, t, x_0)
    return Gaussian(at(s.alpha_bar.sqrt(), t, x_0) * x_0, at(s.one_minus_alpha_bar, t, x_0))


def q_step(s: NoiseSchedule, x_previous: Tensor, t: Tensor) -> Gaussian:
    """q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t I). Ho et al. 2020, eq. 2."""
    check_times(s, t, x_previous)
    return Gaussian(at(s.alpha.sqrt(), t, x_previous) * x_previous, at(s.beta, t, x_previous))
