"""The reverse process: the mean of eq. 11, the variance table, clipping."""

import pytest
import torch

from diffusion.process import (
    NoiseSchedule,
    learned_variance,
    p_reverse,
    predict_x_0,
    q_posterior,
    q_sample,
    reverse_variance,
    split_output,
    without_variance,
)


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


def test_a_learned_variance_lies_between_the_fixed_ones_on_the_scale_of_logarithms(any_schedule):
    s, t = any_schedule, torch.arange(1, 51)
    small, large = (reverse_variance(s, kind)[1:] for kind in ("small", "large"))
    for v, expected in ((0.0, small), (1.0, large), (0.5, (small * large).sqrt()), (-1.0, small**2 / large)):
        found = learned_variance(s, t, torch.full((50, 1, 2, 2), v, dtype=torch.float64))
        assert found.shape == (50, 1, 2, 2)
        torch.testing.assert_close(found[:, 0, 0, 1], expected, rtol=1e-9, atol=0)


def test_the_learned_variance_is_no_table_and_wants_v(any_schedule):
    x = torch.zeros(1, 1, 1, 1).double()
    with pytest.raises(ValueError, match="no table"):
        reverse_variance(any_schedule, "learned")
    with pytest.raises(ValueError, match="the model returns none"):
        p_reverse(any_schedule, x, torch.tensor([3]), x, "learned")


def test_the_output_of_a_network_with_learned_variance_is_split():
    x_t = torch.zeros(3, 2, 4, 4)
    output = torch.cat([torch.full_like(x_t, 7.0), torch.full_like(x_t, -1.0)], dim=1)
    for learned in (True, None):
        prediction, v = split_output(output, x_t, learned=learned)
        assert (prediction == 7).all()
        assert (v == 0).all()  # -1 stands for the small variance
    assert split_output(x_t, x_t)[1] is None
    assert split_output(x_t, x_t, learned=False)[1] is None
    torch.testing.assert_close(without_variance(lambda x, t: output)(x_t, torch.ones(3)), x_t + 7)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_that_the_variance_does_not_ask_for_are_refused(channels):
    x_t = torch.zeros(3, 2, 4, 4)
    output = torch.zeros(3, channels, 4, 4)
    with pytest.raises(ValueError, match=rf"shape of x_t, \(3, 2, 4, 4\), got \(3, {channels}, 4, 4\)"):
        split_output(output, x_t, learned=False)
    if channels != 4:
        with pytest.raises(ValueError, match=rf"twice the channels of x_t, \(3, 4, 4, 4\), got \(3, {channels}"):
            split_output(output, x_t, learned=True)
        with pytest.raises(ValueError, match="shape of x_t"):
            split_output(output, x_t)
