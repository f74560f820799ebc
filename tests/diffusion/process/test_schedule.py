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
        ([9.5, 3.0], "`interpolated` takes others"),
    ],
)
def test_bad_times_are_refused(any_schedule, times, message):
    with pytest.raises(ValueError, match=message):
        any_schedule.respaced(times)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([3.5, 3.5], "strictly decreasing"),
        ([float("nan")], "1..50"),
        ([], "strictly decreasing"),
        ([50.1], "1..50"),
        ([5, 0.9], "1..50"),
    ],
)
def test_bad_times_between_are_refused(any_schedule, times, message):
    with pytest.raises(ValueError, match=message):
        any_schedule.interpolated(times)


def test_interpolated_is_the_table_at_whole_times_and_linear_in_log_snr_between(any_schedule):
    s = any_schedule
    between = s.interpolated([50, 20.25, 3.0, 1])
    assert between.time.tolist() == [0, 1, 3, 20.25, 50]
    assert torch.equal(between.log_alpha_bar[[0, 1, 2, 4]], s.log_alpha_bar[[0, 1, 3, 50]])
    assert between.log_snr[3].item() == pytest.approx((0.75 * s.log_snr[20] + 0.25 * s.log_snr[21]).item(), rel=1e-12)
    half = s.respaced([50, 20, 3]).interpolated([2.5])  # of a chain: between its own neighbours
    assert half.time.tolist() == [0, 35]


def test_the_time_of_a_log_snr_is_the_inverse(any_schedule):
    times = [50.0, 49.5, 20.25, 2.0, 1.0]
    log_snr = any_schedule.interpolated(times).log_snr.tolist()[:0:-1]
    assert any_schedule.time_at(log_snr) == pytest.approx(times, rel=1e-12)
    assert any_schedule.time_at([99.0, -99.0]) == [1, 50]


def test_rescaled_to_zero_snr_is_the_papers_shift_and_scale(any_schedule):
    s, z = any_schedule, any_schedule.rescaled_to_zero_snr()
    a = s.alpha_bar.sqrt()
    expected = (a[1:] - a[-1]) * a[1] / (a[1] - a[-1])  # Lin et al. 2024, algorithm 1
    torch.testing.assert_close(z.alpha_bar.sqrt()[1:], expected, rtol=1e-12, atol=1e-16)
    assert (z.alpha_bar[-1], z.log_alpha_bar[1], z.zero_snr, s.zero_snr) == (0, s.log_alpha_bar[1], True, False)


def test_tables_at_zero_snr_are_those_of_noise_alone(any_schedule):
    s = any_schedule.rescaled_to_zero_snr()
    at_T = {name: getattr(s, name)[-1].item() for name in ("alpha_bar", "alpha", "beta", "snr", "log_snr")}
    assert at_T == {"alpha_bar": 0, "alpha": 0, "beta": 1, "snr": 0, "log_snr": -torch.inf}
    assert s.beta_tilde[-1] == s.one_minus_alpha_bar[-2]  # x_T says nothing: q(x_{T-1} | x_T, x_0) = q(x_{T-1} | x_0)
    chain = s.respaced([50, 20])
    assert (chain.beta[2], chain.beta_tilde[2]) == (1, s.one_minus_alpha_bar[20])
    assert s.interpolated([50, 48.5]).alpha_bar[-1] == 0
    assert s.interpolated([48.5]).log_snr[1].item() == pytest.approx((s.log_snr[48] + s.log_snr[49]).item() / 2)
    assert s.time_at([s.log_snr[48].item()]) == [48]
    with pytest.raises(ValueError, match=r"between T - 1 and T = 50 of zero SNR, got 49\.5"):
        s.interpolated([49.5, 2])


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
        (lambda: NoiseSchedule.from_log_alpha_bar(torch.tensor([0.0, -torch.inf, -torch.inf]).double()), "decrease"),
        (lambda: NoiseSchedule.from_log_alpha_bar(torch.tensor([0.0, -999.0, -torch.inf]).double()), "is 0 in float32"),
        (lambda: NoiseSchedule.from_betas([0.9] * 76), "is 0 in float32"),
        (lambda: NoiseSchedule.linear(1).rescaled_to_zero_snr(), "two or more steps"),
        (lambda: NoiseSchedule.linear(9).rescaled_to_zero_snr().rescaled_to_zero_snr(), "above zero SNR"),
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
