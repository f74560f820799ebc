"""The tables against their definitions, term by term in exact fractions where these are short."""

from fractions import Fraction
from math import cos, log, pi

import pytest
import torch

from diffusion.process import NoiseSchedule


def test_tables_from_two_betas_are_the_exact_fractions():
    s = NoiseSchedule.from_betas([0.25, 0.5])  # alpha = 3/4, 1/2; alpha_bar = 3/4, 3/8
    assert s.T == 2
    exact = {
        "beta": [0, Fraction(1, 4), Fraction(1, 2)],
        "alpha": [1, Fraction(3, 4), Fraction(1, 2)],
        "alpha_bar": [1, Fraction(3, 4), Fraction(3, 8)],
        "one_minus_alpha_bar": [0, Fraction(1, 4), Fraction(5, 8)],
        "beta_tilde": [0, 0, Fraction(1, 4) / Fraction(5, 8) * Fraction(1, 2)],  # (1/4) / (5/8) * 1/2 = 1/5
    }
    for name, values in exact.items():
        table = getattr(s, name)
        assert table.dtype == torch.float64, name
        exact_table = torch.tensor([float(v) for v in values], dtype=torch.float64)
        torch.testing.assert_close(table, exact_table, rtol=4e-15, atol=0)
    torch.testing.assert_close(s.snr[1:], torch.tensor([3.0, 0.6], dtype=torch.float64))
    assert s.snr[0] == torch.inf
    torch.testing.assert_close(s.log_snr, s.snr.log())


def test_linear_has_the_papers_ends_and_product():
    s = NoiseSchedule.linear()
    betas = [1e-4 + (0.02 - 1e-4) * k / 999 for k in range(1000)]
    assert s.beta[1].item() == pytest.approx(1e-4, rel=1e-12)
    assert s.beta[1000].item() == pytest.approx(0.02, rel=1e-12)
    product = 1.0
    for beta in betas:
        product *= 1 - beta
    assert s.alpha_bar[-1].item() == pytest.approx(product, rel=1e-11)


@pytest.mark.parametrize("T", [1, 10, 250, 500])
def test_rescaled_linear_is_the_same_process_at_fewer_times(T):
    full, s = NoiseSchedule.linear(1000), NoiseSchedule.linear(T)
    torch.testing.assert_close(s.alpha_bar, full.alpha_bar[:: 1000 // T], rtol=1e-12, atol=0)


def test_rescaled_linear_also_refines_and_keeps_its_end():
    fine = NoiseSchedule.linear(4000)
    torch.testing.assert_close(fine.alpha_bar[::4], NoiseSchedule.linear(1000).alpha_bar, rtol=1e-12, atol=0)


def test_linear_without_rescaling_has_the_given_ends():
    s = NoiseSchedule.linear(10, 0.1, 0.3, rescale=False)
    assert (s.beta[1].item(), s.beta[10].item()) == pytest.approx((0.1, 0.3), rel=1e-12)


def test_cosine_is_a_squared_cosine_with_clipped_betas():
    s, T = NoiseSchedule.cosine(100), 100
    f = [cos((t / T + 0.008) / 1.008 * pi / 2) ** 2 for t in range(T + 1)]
    for t in (1, 50, 99):
        assert s.alpha_bar[t].item() == pytest.approx(f[t] / f[0], rel=1e-10)
    assert s.beta[T].item() == pytest.approx(0.999, rel=1e-12)


def test_log_snr_is_linear_between_its_ends():
    s = NoiseSchedule.log_snr_linear(5, log_snr_max=4.0, log_snr_min=-4.0)
    torch.testing.assert_close(s.log_snr[1:], torch.tensor([4.0, 2.0, 0.0, -2.0, -4.0], dtype=torch.float64))
    assert s.alpha_bar[3].item() == pytest.approx(0.5, rel=1e-14)


def test_small_noise_keeps_its_digits():
    s = NoiseSchedule.from_betas([1e-14, 0.5])
    assert s.one_minus_alpha_bar[1].item() == pytest.approx(1e-14, rel=1e-12)  # 1 - alpha_bar would give 9.992e-15


def test_respaced_keeps_the_marginals_and_remembers_the_times(any_schedule):
    r = any_schedule.respaced([50, 20, 3])
    assert r.T == 3
    assert r.time.tolist() == [0, 3, 20, 50]
    torch.testing.assert_close(r.alpha_bar, any_schedule.alpha_bar[[0, 3, 20, 50]], rtol=1e-14, atol=0)
    beta = 1 - any_schedule.alpha_bar[20] / any_schedule.alpha_bar[3]
    torch.testing.assert_close(r.beta[2], beta, rtol=1e-12, atol=0)
    assert r.respaced([2]).time.tolist() == [0, 20]  # of a respaced chain: its own indices, the full process' times


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([3, 3], "strictly decreasing"),
        ([1, 2], "strictly decreasing"),
        ([], "strictly decreasing"),
        ([51], "1..50"),
        ([5, 0], "1..50"),
        ([50.0, 20.9, 3.7], "whole numbers"),
        (torch.linspace(50, 1, 7), "whole numbers"),
        ([True], "whole numbers"),
    ],
)
def test_bad_times_are_refused(any_schedule, times, message):
    with pytest.raises(ValueError, match=message):
        any_schedule.respaced(times)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NoiseSchedule.from_betas([0.1, 1.0]), "beta_2 = 1.0 must lie in"),
        (lambda: NoiseSchedule.from_betas([0.0]), "beta_1 = 0.0"),
        (lambda: NoiseSchedule.from_betas([float("nan")]), "beta_1 = nan"),
        (lambda: NoiseSchedule.from_betas([]), "list beta_1"),
        (lambda: NoiseSchedule.linear(0), "at least 1"),
        (lambda: NoiseSchedule.log_snr_linear(1), "at least 2"),
        (lambda: NoiseSchedule.log_snr_linear(9, log_snr_max=-1, log_snr_min=1), "must be below"),
        (lambda: NoiseSchedule.from_log_alpha_bar(torch.tensor([0.0, -1.0])), "float64"),
        (lambda: NoiseSchedule.from_log_alpha_bar(torch.tensor([0.0, -1.0, -1.0]).double()), "decrease"),
        (lambda: NoiseSchedule.from_log_alpha_bar(torch.tensor([0.0, -torch.inf]).double()), "zero SNR"),
        (lambda: NoiseSchedule.from_betas([0.9] * 76), "is 0 in float32"),
    ],
)
def test_bad_schedules_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_from_log_alpha_bar_is_the_inverse_of_reading_it(any_schedule):
    again = NoiseSchedule.from_log_alpha_bar(any_schedule.log_alpha_bar.clone())
    assert torch.equal(again.beta_tilde, any_schedule.beta_tilde)


def test_the_prior_gap_of_the_default_schedule():
    # alpha_bar_1000 = 4.0e-5 (the paper: "L_T ~ 0, about 1e-5 bits per dimension")
    s = NoiseSchedule.linear()
    a = s.alpha_bar[-1].item()
    worst = 0.5 * (a * 1.0 - a - log(1 - a)) / log(2)  # the largest x_0^2 is 1
    assert worst < 3e-5
