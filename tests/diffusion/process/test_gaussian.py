"""KL, density and interval of normal distributions."""

from math import erf, log, pi, sqrt

import pytest
import torch

from diffusion.process import gaussian_kl, gaussian_log_density
from diffusion.process.gaussian import log_normal_interval


def tensors(*values):
    return [torch.tensor(v, dtype=torch.float64) for v in values]


def test_kl_by_hand():
    # N(1, 2^2) against N(3, 4^2): log(4/2) + (4 + 4) / (2 * 16) - 1/2 = log 2 - 1/4
    assert gaussian_kl(*tensors(1.0, 4.0, 3.0, 16.0)).item() == pytest.approx(log(2) - 0.25, rel=1e-14)
    # the other way round it is another number: log(1/2) + (16 + 4) / 8 - 1/2 = 2 - log 2
    assert gaussian_kl(*tensors(3.0, 16.0, 1.0, 4.0)).item() == pytest.approx(2 - log(2), rel=1e-14)


def test_kl_is_zero_only_for_equal_arguments():
    assert gaussian_kl(*tensors(0.3, 0.7, 0.3, 0.7)).item() == 0
    for other in ((0.3001, 0.7), (0.3, 0.7001)):
        assert gaussian_kl(*tensors(0.3, 0.7, *other)).item() > 0


def test_density_by_hand():
    assert gaussian_log_density(*tensors(3.0, 1.0, 4.0)).item() == pytest.approx(-0.5 - 0.5 * log(2 * pi * 4))


@pytest.mark.parametrize(("lower", "upper"), [(-1.0, 2.0), (0.5, 0.6), (-0.1, 0.1), (-3.0, -2.5)])
def test_interval_against_erf(lower, upper):
    exact = 0.5 * (erf(upper / sqrt(2)) - erf(lower / sqrt(2)))
    assert log_normal_interval(*tensors(lower, upper)).item() == pytest.approx(log(exact), rel=1e-12)


def test_interval_in_the_far_tail_keeps_its_digits():
    # Mills ratio: 1 - Phi(x) ~ phi(x) / x (1 - 1/x^2 + 3/x^4 - 15/x^6)
    x = 40.0
    exact = -x * x / 2 - 0.5 * log(2 * pi) - log(x) + log(1 - x**-2 + 3 * x**-4 - 15 * x**-6)
    for ends in ((x, torch.inf), (-torch.inf, -x)):
        assert log_normal_interval(*tensors(*ends)).item() == pytest.approx(exact, rel=1e-11)
    assert log_normal_interval(*tensors(-torch.inf, torch.inf)).item() == 0
