"""What a network may predict: eps, x_0, v or the score. Each pair below is a bijection at fixed x_t and t.

With a = sqrt(alpha_bar_t) and b = sqrt(1 - alpha_bar_t):

    x_t = a x_0 + b eps        v = a eps - b x_0        score = grad log q(x_t) = -eps / b

All arguments are (N, C, H, W), t is a LongTensor (N,) in 1..T. v: Salimans & Ho 2022; score: Song et al. 2021.
At zero SNR a = 0: x_0 and v still tell x_0 and eps, eps and the score tell x_0 no longer.
"""

from enum import StrEnum

import torch
from torch import Tensor

from diffusion.process.schedule import NoiseSchedule, at, check_times


class Target(StrEnum):
    """What a network predicts."""

    EPS = "eps"
    X_0 = "x_0"
    V = "v"
    SCORE = "score"


def check_target(s: NoiseSchedule, target: Target | str) -> None:
    """Refuse a target that at zero SNR says nothing about x_0."""
    if s.zero_snr and Target(target) in (Target.EPS, Target.SCORE):
        raise ValueError(
            f"at zero SNR (alpha_bar_T = 0) x_T is noise alone: a predicted {Target(target)} says nothing about x_0; "
            "let the network predict v or x_0, or use a schedule or times that end above zero SNR"
        )


def target_of(s: NoiseSchedule, x_0: Tensor, t: Tensor, eps: Tensor, target: Target | str) -> Tensor:
    """What a perfect network that knew x_0 and eps would return for x_t."""
    a, b = _signal_and_noise(s, x_0, t)
    match Target(target):
        case Target.EPS:
            return eps
        case Target.X_0:
            return x_0
        case Target.V:
            return a * eps - b * x_0
        case Target.SCORE:
            return -eps / b


def to_x_0(s: NoiseSchedule, x_t: Tensor, t: Tensor, prediction: Tensor, target: Target | str) -> Tensor:
    """The image that a prediction of any kind stands for."""
    match Target(target):
        case Target.EPS:
            return eps_to_x_0(s, x_t, t, prediction)
        case Target.X_0:
            return prediction
        case Target.V:
            return v_to_x_0(s, x_t, t, prediction)
        case Target.SCORE:
            return eps_to_x_0(s, x_t, t, score_to_eps(s, x_t, t, prediction))


def to_eps(s: NoiseSchedule, x_t: Tensor, t: Tensor, prediction: Tensor, target: Target | str) -> Tensor:
    """The noise that a prediction of any kind stands for."""
    match Target(target):
        case Target.EPS:
            return prediction
        case Target.X_0:
            return x_0_to_eps(s, x_t, t, prediction)
        case Target.V:
            return v_to_eps(s, x_t, t, prediction)
        case Target.SCORE:
            return score_to_eps(s, x_t, t, prediction)


def eps_error_scale(s: NoiseSchedule, target: Target | str) -> Tensor:
    """k_t with ||eps - eps_hat||^2 = k_t ||target - prediction||^2, (T + 1,) float64: 1, SNR, alpha_bar, 1 - alpha_bar.

    At fixed x_t each of the four is affine in eps, with the factors 1, -b / a, 1 / a and -1 / b. 0 at index 0. At zero
    SNR the error of eps is 0 too; the table has next to nothing there instead, which the weights of eps undo.
    """
    s = s.above_zero_snr()
    match Target(target):
        case Target.EPS:
            table = torch.ones_like(s.alpha_bar)
        case Target.X_0:
            table = s.snr.clone()
        case Target.V:
            table = s.alpha_bar.clone()
        case Target.SCORE:
            table = s.one_minus_alpha_bar.clone()
    table[:1].zero_()
    return table


def eps_to_x_0(s: NoiseSchedule, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """x_0 = (x_t - b eps) / a. Ho et al. 2020, eq. 15."""
    a, b = _signal_and_noise(s, x_t, t)
    return (x_t - b * eps) / a


def x_0_to_eps(s: NoiseSchedule, x_t: Tensor, t: Tensor, x_0: Tensor) -> Tensor:
    """eps = (x_t - a x_0) / b."""
    a, b = _signal_and_noise(s, x_t, t)
    return (x_t - a * x_0) / b


def eps_to_v(s: NoiseSchedule, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """v = (eps - b x_t) / a, from v = a eps - b x_0."""
    a, b = _signal_and_noise(s, x_t, t)
    return (eps - b * x_t) / a


def v_to_eps(s: NoiseSchedule, x_t: Tensor, t: Tensor, v: Tensor) -> Tensor:
    """eps = a v + b x_t."""
    a, b = _signal_and_noise(s, x_t, t)
    return a * v + b * x_t


def x_0_to_v(s: NoiseSchedule, x_t: Tensor, t: Tensor, x_0: Tensor) -> Tensor:
    """v = (a x_t - x_0) / b."""
    a, b = _signal_and_noise(s, x_t, t)
    return (a * x_t - x_0) / b


def v_to_x_0(s: NoiseSchedule, x_t: Tensor, t: Tensor, v: Tensor) -> Tensor:
    """x_0 = a x_t - b v: no division, so it holds down to zero SNR."""
    a, b = _signal_and_noise(s, x_t, t)
    return a * x_t - b * v


def eps_to_score(s: NoiseSchedule, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """score = -eps / b."""
    _, b = _signal_and_noise(s, x_t, t)
    return -eps / b


def score_to_eps(s: NoiseSchedule, x_t: Tensor, t: Tensor, score: Tensor) -> Tensor:
    """eps = -b score."""
    _, b = _signal_and_noise(s, x_t, t)
    return -b * score


def _signal_and_noise(s: NoiseSchedule, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """a and b, (N, 1, 1, 1)."""
    check_times(s, t, x_t)
    return at(s.alpha_bar.sqrt(), t, x_t), at(s.one_minus_alpha_bar.sqrt(), t, x_t)
