"""The reverse process: the mean of eq. 11, the variance table, clipping."""

import pytest
import torch

from diffusion.process import NoiseSchedule, p_reverse, predict_x_0, q_posterior, q_sample, reverse_variance


def test_mean_is_equation_11(any_schedule, rng):
    s = any_schedule
    t = torch.arange(1, s.T + 1)
    x_t, eps_hat = (torch.randn(s.T, 1, 1, 1, generator=rng, dtype=torch.float64) for _ in range(2))
    x_0_hat = predict_x_0(s, x_t, t, eps_hat, clip=False)
    eq_11 = (x_t.flatten() - s.beta[t] / (1 - s.alpha_bar[t]).sqrt() * eps_hat.flatten()) / s.alpha[t].sqrt()
    torch.testing.assert_close(p_reverse(s, x_t, t, x_0_hat, "small").mean.flatten(), eq_11, rtol=1e-8, atol=1e-9)


def test_the_true_noise_gives_the_posterior(any_schedule, rng):
    s = any_schedule
    t = torch.arange(1, s.T + 1)
    x_0, eps = (torch.randn(s.T, 1, 2, 2, generator=rng, dtype=torch.float64) for _ in range(2))
    x_t = q_sample(s, x_0, t, eps)
    x_0_hat = predict_x_0(s, x_t, t, eps, clip=False)
    torch.testing.assert_close(p_reverse(s, x_t, t, x_0_hat, "small").mean, q_posterior(s, x_0, x_t, t).mean)


def test_variance_tables():
    s = NoiseSchedule.from_betas([0.25, 0.5])  # beta_tilde_2 = 1/5, see test_schedule
    assert reverse_variance(s, "large").tolist() == pytest.approx([0, 0.25, 0.5])
    assert reverse_variance(s, "small").tolist() == pytest.approx([0, 0.2, 0.2])  # at t = 1 that of the next pair
    assert s.beta_tilde[1] == 0  # the schedule's own table is left alone
    single = NoiseSchedule.from_betas([0.25])
    assert reverse_variance(single, "small")[1].item() == pytest.approx(0.25)


def test_variance_of_a_respaced_chain_is_that_of_its_pairs(any_schedule):
    s = any_schedule.respaced([50, 30, 8])
    a8, a30 = any_schedule.alpha_bar[8], any_schedule.alpha_bar[30]
    expected = (1 - a8) / (1 - a30) * (1 - a30 / a8)
    torch.testing.assert_close(reverse_variance(s, "small")[1:3], expected.repeat(2), rtol=1e-10, atol=0)
    torch.testing.assert_close(reverse_variance(s, "large")[1], 1 - a8, rtol=1e-10, atol=0)


def test_unknown_variance_is_refused(any_schedule):
    with pytest.raises(ValueError, match="medium"):
        reverse_variance(any_schedule, "medium")


def test_clipping_acts_on_the_predicted_image(any_schedule):
    x_t = torch.full((1, 1, 1, 1), 9.0).double()
    t = torch.tensor([25])
    assert predict_x_0(any_schedule, x_t, t, 0 * x_t, clip=True).item() == 1
    assert predict_x_0(any_schedule, -x_t, t, 0 * x_t, clip=True).item() == -1
    assert predict_x_0(any_schedule, x_t, t, 0 * x_t, clip=False).item() > 9
