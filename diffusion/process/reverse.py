"""The reverse process p_theta(x_{t-1} | x_t) = N(mu_theta, sigma_t^2 I), or with a variance for each pixel."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import torch
from torch import Tensor

from diffusion.process.gaussian import Gaussian
from diffusion.process.parameterization import Target, to_x_0
from diffusion.process.posterior import q_posterior
from diffusion.process.schedule import NoiseSchedule, at


class Variance(StrEnum):
    """The choices of sigma_t^2. Two are fixed: Ho et al. 2020, section 3.2."""

    SMALL = "small"
    """beta_tilde_t: exact if the data are a single point."""
    LARGE = "large"
    """beta_t: exact if the data are N(0, I)."""
    LEARNED = "learned"
    """Between the two, for each pixel as the network says. Nichol & Dhariwal 2021, eq. 15."""


def reverse_variance(s: NoiseSchedule, kind: Variance | str) -> Tensor:
    """sigma_t^2 for every t, (T + 1,) float64: the one table that sampler, bound and decoder read.

    beta_tilde_1 is 0, which no decoder can use; at t = 1 the small variance is that of the next pair, beta_tilde_2
    (Nichol & Dhariwal 2021, section 3.1). A chain of a single step has no next pair and uses beta_1.

    Raises:
        ValueError: a learned variance is no table; it lies between these two (`learned_variance`).
    """
    if Variance(kind) is Variance.LEARNED:
        raise ValueError("a learned variance is the network's, pixel by pixel: there is no table of it")
    if Variance(kind) is Variance.LARGE or s.T == 1:
        return s.beta
    table = s.beta_tilde.clone()
    table[1] = table[2]
    return table


def learned_variance(s: NoiseSchedule, t: Tensor, v: Tensor) -> Tensor:
    """sigma_t^2 = exp(v log beta_t + (1 - v) log beta_tilde_t) for each pixel. Nichol & Dhariwal 2021, eq. 15.

    v = 0 is the small variance and v = 1 the large one, from the same table, so that t = 1 has its beta_tilde_2 here
    too. v is not held within [0, 1].

    Args:
        t: LongTensor (N,) in 1..T.
        v: (N, C, H, W).
    """
    log_small = reverse_variance(s, Variance.SMALL).log()
    log_large = reverse_variance(s, Variance.LARGE).log()
    return torch.lerp(at(log_small, t, v), at(log_large, t, v), v).exp()


def split_output(output: Tensor, x_t: Tensor, *, learned: bool | None = None) -> tuple[Tensor, Tensor | None]:
    """What a network returned: its prediction, (N, C, H, W), and the v of its variance, likewise, or None.

    A network with learned variance has twice the channels of x_t. The second half o, in about [-1, 1], stands for
    v = (o + 1) / 2, as in the code of Nichol & Dhariwal 2021: zero is half-way between both variances.

    Args:
        learned: whether there must be a v; None takes it if it is there.

    Raises:
        ValueError: the channels are not those of x_t, or not those that the variance asks for.
    """
    plain, double = x_t.shape, (x_t.shape[0], 2 * x_t.shape[1], *x_t.shape[2:])
    if output.shape == plain and not learned:
        return output, None
    if output.shape == double and learned in (True, None):
        prediction, o = output.chunk(2, dim=1)
        return prediction, (o + 1) / 2
    if learned:
        raise ValueError(
            f"for a learned variance the model must return twice the channels of x_t, {tuple(double)}, "
            f"got {tuple(output.shape)}: train it with one, or ask for the small or large variance"
        )
    remedy = "; it has a learned variance: ask for that" if output.shape == double else ""
    raise ValueError(f"the model must return the shape of x_t, {tuple(plain)}, got {tuple(output.shape)}{remedy}")


def without_variance(model: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The prediction alone of a model with learned variance, to be used with one of the fixed variances."""

    def prediction(x_t: Tensor, t: Tensor, **told: Tensor) -> Tensor:
        return split_output(model(x_t, t, **told), x_t, learned=True)[0]

    return prediction


def predict_x_0(
    s: NoiseSchedule, x_t: Tensor, t: Tensor, prediction: Tensor, *, clip: bool, target: Target | str = Target.EPS
) -> Tensor:
    """The image that the prediction stands for, clipped to [-1, 1] if asked. Ho et al. 2020, eq. 15."""
    x_0_hat = to_x_0(s, x_t, t, prediction, target)
    return x_0_hat.clamp(-1, 1) if clip else x_0_hat


def p_reverse(
    s: NoiseSchedule, x_t: Tensor, t: Tensor, x_0_hat: Tensor, variance: Variance | str, v: Tensor | None = None
) -> Gaussian:
    """p_theta(x_{t-1} | x_t) = N(mu_theta, sigma_t^2). Ho et al. 2020, eq. 11.

    mu_theta = (x_t - beta_t / sqrt(1 - alpha_bar_t) eps_hat) / sqrt(alpha_t) is mu_tilde with x_0_hat in place of x_0;
    it is taken in that form because x_0_hat is what clipping acts on.

    Args:
        v: for the learned variance, as `split_output` gives it.

    Raises:
        ValueError: the learned variance is asked for without v.
    """
    mean = q_posterior(s, x_0_hat, x_t, t).mean
    if Variance(variance) is not Variance.LEARNED:
        return Gaussian(mean, at(reverse_variance(s, variance), t, x_t))
    if v is None:
        raise ValueError(
            "the variance is to be the learned one, but the model returns none: train it with a learned variance, or "
            "ask for the small or large one"
        )
    return Gaussian(mean, learned_variance(s, t, v.to(x_t.dtype)))


def first_non_finite(values: Tensor) -> int | None:
    """Index of the first image of the batch with a value that is not finite, or None."""
    finite = torch.isfinite(values).flatten(1).all(dim=1)
    return None if bool(finite.all()) else int((~finite).nonzero()[0])
