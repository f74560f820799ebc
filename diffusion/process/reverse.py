"""The reverse process p_theta(x_{t-1} | x_t) = N(mu_theta, sigma_t^2 I)."""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor

from diffusion.process.gaussian import Gaussian
from diffusion.process.parameterization import eps_to_x_0
from diffusion.process.posterior import q_posterior
from diffusion.process.schedule import NoiseSchedule, at


class Variance(StrEnum):
    """The two fixed choices of sigma_t^2. Ho et al. 2020, section 3.2."""

    SMALL = "small"
    """beta_tilde_t: exact if the data are a single point."""
    LARGE = "large"
    """beta_t: exact if the data are N(0, I)."""


def reverse_variance(s: NoiseSchedule, kind: Variance | str) -> Tensor:
    """sigma_t^2 for every t, (T + 1,) float64: the one table that sampler, bound and decoder read.

    beta_tilde_1 is 0, which no decoder can use; at t = 1 the small variance is that of the next pair, beta_tilde_2
    (Nichol & Dhariwal 2021, section 3.1). A chain of a single step has no next pair and uses beta_1.
    """
    if Variance(kind) is Variance.LARGE or s.T == 1:
        return s.beta
    table = s.beta_tilde.clone()
    table[1] = table[2]
    return table


def predict_x_0(s: NoiseSchedule, x_t: Tensor, t: Tensor, eps_hat: Tensor, *, clip: bool) -> Tensor:
    """The image that the predicted noise stands for, clipped to [-1, 1] if asked. Ho et al. 2020, eq. 15."""
    x_0_hat = eps_to_x_0(s, x_t, t, eps_hat)
    return x_0_hat.clamp(-1, 1) if clip else x_0_hat


def p_reverse(s: NoiseSchedule, x_t: Tensor, t: Tensor, x_0_hat: Tensor, variance: Variance | str) -> Gaussian:
    """p_theta(x_{t-1} | x_t) = N(mu_theta, sigma_t^2 I). Ho et al. 2020, eq. 11.

    mu_theta = (x_t - beta_t / sqrt(1 - alpha_bar_t) eps_hat) / sqrt(alpha_t) is mu_tilde with x_0_hat in place of x_0;
    it is taken in that form because x_0_hat is what clipping acts on.
    """
    return Gaussian(q_posterior(s, x_0_hat, x_t, t).mean, at(reverse_variance(s, variance), t, x_t))


def check_prediction(eps_hat: Tensor, x_t: Tensor) -> Tensor:
    """`eps_hat` if it has the shape of x_t; a model with another number of channels is refused."""
    if eps_hat.shape != x_t.shape:
        raise ValueError(f"the model must return the shape of x_t, {tuple(x_t.shape)}, got {tuple(eps_hat.shape)}")
    return eps_hat


def first_non_finite(values: Tensor) -> int | None:
    """Index of the first image of the batch with a value that is not finite, or None."""
    finite = torch.isfinite(values).flatten(1).all(dim=1)
    return None if bool(finite.all()) else int((~finite).nonzero()[0])
