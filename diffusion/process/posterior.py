"""The posterior of the forward process: where x_{t-1} was, given both ends."""

import torch
from torch import Tensor

from diffusion.process.gaussian import Gaussian
from diffusion.process.schedule import NoiseSchedule, at, check_times


def q_posterior(s: NoiseSchedule, x_0: Tensor, x_t: Tensor, t: Tensor) -> Gaussian:
    """q(x_{t-1} | x_t, x_0) = N(mu_tilde, beta_tilde_t I). Ho et al. 2020, eq. 6 and 7.

    mu_tilde = sqrt(alpha_bar_{t-1}) beta_t / (1 - alpha_bar_t) x_0
             + sqrt(alpha_t) (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) x_t

    For a respaced schedule this is the general q(x_s | x_t, x_0) with s the next smaller time of the list.

    Args:
        x_0, x_t: (N, C, H, W).
        t: LongTensor (N,) in 1..T.
    """
    check_times(s, t, x_t)
    alpha_bar_previous = torch.cat([s.alpha_bar[:1], s.alpha_bar[:-1]])
    one_minus_previous = torch.cat([s.one_minus_alpha_bar[:1], s.one_minus_alpha_bar[:-1]])
    of_x_0 = alpha_bar_previous.sqrt() * s.beta / s.one_minus_alpha_bar
    of_x_t = s.alpha.sqrt() * one_minus_previous / s.one_minus_alpha_bar
    mu_tilde = at(of_x_0, t, x_t) * x_0 + at(of_x_t, t, x_t) * x_t
    return Gaussian(mu_tilde, at(s.beta_tilde, t, x_t))
