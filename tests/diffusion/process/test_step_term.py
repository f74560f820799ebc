"""L_{t-1} from the error of the predicted noise is the KL of both Gaussians, to the last digits."""

import pytest
import torch

from diffusion.process import (
    Variance,
    bound_weight,
    gaussian_kl,
    learned_variance,
    p_reverse,
    predict_x_0,
    q_posterior,
    q_sample,
    reverse_variance,
    step_kl,
)


@pytest.fixture
def pair(any_schedule, rng):
    """Per time from 2 on: the image, x_t, t, and a prediction that is wrong."""
    t = torch.arange(2, 51)
    x_0, eps, off = (torch.randn(49, 1, 2, 2, generator=rng, dtype=torch.float64) for _ in range(3))
    return x_0, q_sample(any_schedule, x_0, t, eps), t, eps, eps + 0.3 * off


@pytest.mark.parametrize(("variance", "v"), [("small", 0.0), ("large", 1.0)])
def test_it_is_the_kl_for_both_fixed_variances(any_schedule, pair, variance, v):
    s, (x_0, x_t, t, eps, eps_hat) = any_schedule, pair
    x_0_hat = predict_x_0(s, x_t, t, eps_hat, clip=False)
    kl = gaussian_kl(*q_posterior(s, x_0, x_t, t), *p_reverse(s, x_t, t, x_0_hat, variance))
    torch.testing.assert_close(step_kl(s, t, (eps - eps_hat) ** 2, v), kl, rtol=1e-7, atol=1e-11)


def test_it_is_the_kl_for_a_learned_variance(any_schedule, pair, rng):
    s, (x_0, x_t, t, eps, eps_hat) = any_schedule, pair
    v = 2 * torch.rand(x_0.shape, generator=rng, dtype=torch.float64) - 0.5
    x_0_hat = predict_x_0(s, x_t, t, eps_hat, clip=False)
    p = p_reverse(s, x_t, t, x_0_hat, Variance.LEARNED, v)
    torch.testing.assert_close(p.variance, learned_variance(s, t, v))
    kl = gaussian_kl(*q_posterior(s, x_0, x_t, t), *p)
    torch.testing.assert_close(step_kl(s, t, (eps - eps_hat) ** 2, v), kl, rtol=1e-7, atol=1e-10)


def test_float32_is_enough(any_schedule, pair):
    s, (_, _, t, eps, eps_hat) = any_schedule, pair
    error = (eps - eps_hat) ** 2
    for v in (0.0, 0.5, 1.0):
        exact = step_kl(s, t, error, v)
        torch.testing.assert_close(step_kl(s, t, error.float(), v).double(), exact, rtol=1e-5, atol=1e-7)


def test_the_weight_is_equation_12(any_schedule):
    s, t = any_schedule, torch.arange(1, 51)
    for variance in ("small", "large"):
        sigma_squared = reverse_variance(s, variance)[t]
        expected = s.beta[t] ** 2 / (2 * sigma_squared * s.alpha[t] * (1 - s.alpha_bar[t]))
        torch.testing.assert_close(bound_weight(s, variance)[t], expected, rtol=1e-8, atol=0)
    assert bound_weight(s)[0] == 0
    s_2 = s.snr
    half_difference = (s_2[1:-1] - s_2[2:]) / 2 / s_2[2:]  # Kingma et al. 2021, eq. 14, of eps
    torch.testing.assert_close(bound_weight(s)[2:], half_difference, rtol=1e-8, atol=0)
