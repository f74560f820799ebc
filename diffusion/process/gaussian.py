"""Gaussians with diagonal covariance: the one distribution that the whole process is made of."""

from __future__ import annotations

from math import log, pi
from typing import NamedTuple

import torch
from torch import Tensor


class Gaussian(NamedTuple):
    """N(mean, variance I); the variance is broadcastable to the mean."""

    mean: Tensor
    variance: Tensor


def gaussian_kl(mean_1: Tensor, variance_1: Tensor, mean_2: Tensor, variance_2: Tensor) -> Tensor:
    """KL(N(mean_1, variance_1) || N(mean_2, variance_2)), elementwise, in nats.

    log(s2 / s1) + (s1^2 + (m1 - m2)^2) / (2 s2^2) - 1/2. With r = s1^2 / s2^2 the part without means is
    (r - 1 - log r) / 2.
    """
    ratio = variance_1 / variance_2
    return 0.5 * (ratio - 1 - torch.log(ratio) + (mean_1 - mean_2) ** 2 / variance_2)


def gaussian_log_density(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """log N(x; mean, variance), elementwise, in nats."""
    return -0.5 * (log(2 * pi) + torch.log(variance) + (x - mean) ** 2 / variance)


def log_normal_interval(lower: Tensor, upper: Tensor) -> Tensor:
    """log(Phi(upper) - Phi(lower)) of the standard normal, elementwise; lower < upper, either may be infinite.

    Where both ends are positive the interval is mirrored to the left tail, in which log Phi keeps its digits; so no
    floor is needed and a divergence is seen, not hidden.
    """
    mirror = lower > 0
    a = torch.where(mirror, -upper, lower)
    b = torch.where(mirror, -lower, upper)
    log_a: Tensor = torch.special.log_ndtr(a)
    log_b: Tensor = torch.special.log_ndtr(b)
    return log_b + torch.log(-torch.expm1(log_a - log_b))
