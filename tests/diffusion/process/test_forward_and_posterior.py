"""q(x_t | x_0) and q(x_{t-1} | x_t, x_0) against composition, and against the conditional-Gaussian theorem."""

import pytest
import torch

from diffusion.process import NoiseSchedule, q_marginal, q_posterior, q_sample, q_step


def test_q_sample_by_hand():
    s = NoiseSchedule.from_betas([0.36])  # a = 0.8, b = 0.6
    x_0, eps = torch.full((1, 1, 1, 1), 0.5).double(), torch.full((1, 1, 1, 1), -2.0).double()
    x_1 = q_sample(s, x_0, torch.tensor([1]), eps)
    assert x_1.item() == pytest.approx(0.8 * 0.5 - 0.6 * 2)


def test_steps_compose_to_the_marginal(any_schedule):
    s = any_schedule
    x_0 = torch.tensor([-1.0, 0.3]).double().view(2, 1, 1, 1)
    mean, variance = x_0, torch.zeros(1).double()
    for t in range(1, s.T + 1):
        step = q_step(s, mean, torch.tensor([t, t]))
        mean, variance = step.mean, s.alpha[t] * variance + step.variance[0, 0, 0]
        marginal = q_marginal(s, x_0, torch.tensor([t, t]))
        torch.testing.assert_close(mean, marginal.mean, rtol=1e-10, atol=1e-14)
        torch.testing.assert_close(variance, marginal.variance[0, 0, 0], rtol=1e-10, atol=0)


@pytest.mark.parametrize(("t", "before"), [(2, 1), (7, 6), (50, 49), (50, 10), (20, 3)])
def test_posterior_is_the_conditional_of_a_joint_gaussian(any_schedule, t, before):
    """x = x_s | x_0, y = x_t: x | y ~ N(mu_x + S_xy / S_yy (y - mu_y), S_xx - S_xy^2 / S_yy)."""
    s, x_0, x_t = any_schedule, 0.7, -0.4
    a_s, a_t = s.alpha_bar[before].item(), s.alpha_bar[t].item()
    transition = (a_t / a_s) ** 0.5  # x_t = transition x_s + noise
    S_xx, S_yy, S_xy = 1 - a_s, 1 - a_t, transition * (1 - a_s)
    mean = a_s**0.5 * x_0 + S_xy / S_yy * (x_t - a_t**0.5 * x_0)
    variance = S_xx - S_xy**2 / S_yy

    chain = s.respaced([t, before])  # index 2 is t, its previous time is `before`
    x = torch.tensor([x_0, x_t], dtype=torch.float64).view(2, 1, 1, 1, 1)
    posterior = q_posterior(chain, x[0], x[1], torch.tensor([2]))
    assert posterior.mean.item() == pytest.approx(mean, rel=1e-9)
    assert posterior.variance.item() == pytest.approx(variance, rel=1e-7)  # the plain form above cancels digits


def test_posterior_mean_in_terms_of_eps(any_schedule):
    """mu_tilde = (x_t - beta_t / sqrt(1 - a-bar_t) eps) / sqrt(alpha_t)."""
    s = any_schedule
    t = torch.arange(1, s.T + 1)
    x_0, eps = (
        torch.linspace(-1, 1, s.T).double().view(-1, 1, 1, 1),
        torch.linspace(2, -1, s.T).double().view(-1, 1, 1, 1),
    )
    x_t = q_sample(s, x_0, t, eps)
    by_eps = (x_t.flatten() - s.beta[t] / (1 - s.alpha_bar[t]).sqrt() * eps.flatten()) / s.alpha[t].sqrt()
    torch.testing.assert_close(q_posterior(s, x_0, x_t, t).mean.flatten(), by_eps, rtol=1e-9, atol=1e-11)


def test_posterior_at_one_is_the_image(any_schedule):
    x_0, x_1 = torch.tensor([0.25, -3.0]).double().view(2, 1, 1, 1, 1)
    posterior = q_posterior(any_schedule, x_0, x_1, torch.tensor([1]))
    assert posterior.mean.item() == pytest.approx(0.25, rel=1e-12)
    assert posterior.variance.item() == 0


@pytest.mark.parametrize("t", [torch.tensor([0]), torch.tensor([51]), torch.tensor([1.0]), torch.tensor([1, 1])])
def test_bad_times_are_refused(any_schedule, t):
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match=r"times must lie in 1\.\.50|LongTensor"):
        q_sample(any_schedule, x, t, x)


def test_half_precision_images_get_coefficients_rounded_once():
    s = NoiseSchedule.linear()
    x = torch.ones(1, 1, 1, 1, dtype=torch.bfloat16)
    noise = q_sample(s, 0 * x, torch.tensor([1]), x)
    assert noise.dtype == torch.bfloat16
    assert noise.item() == pytest.approx(0.01, rel=4e-3)  # from alpha_bar in bfloat16 it would be 0
