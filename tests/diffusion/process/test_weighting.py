"""Each weighting as its paper states it, brought to the error of eps."""

import pytest
import torch

from diffusion.process import P2, SNR, BoundWeight, MinSNR, NoiseSchedule, Plain, bound_weight


@pytest.fixture
def snr(any_schedule):
    return any_schedule.snr[1:]


def test_plain_weights_the_networks_own_target(any_schedule, snr):
    """||x_0 - x_0_hat||^2 = ||eps - eps_hat||^2 / SNR; ||v - v_hat||^2 = ||eps - eps_hat||^2 / alpha_bar."""
    s = any_schedule
    for target, expected in (("eps", torch.ones(50)), ("x_0", 1 / snr), ("v", 1 / s.alpha_bar[1:])):
        torch.testing.assert_close(Plain(target).of_eps(s)[1:], expected.double(), rtol=1e-12, atol=0)


def test_snr_of_x_0_is_1_of_eps(any_schedule):
    torch.testing.assert_close(SNR().of_eps(any_schedule)[1:], torch.ones(50).double())


def test_min_snr(any_schedule, snr):
    """Hang et al. 2023: min(SNR, gamma) on x_0, so min(1, gamma / SNR) on eps."""
    for gamma in (1.0, 5.0):
        expected = torch.clamp(gamma / snr, max=1.0)
        torch.testing.assert_close(MinSNR(gamma).of_eps(any_schedule)[1:], expected, rtol=1e-12, atol=0)


def test_p2(any_schedule, snr):
    """Choi et al. 2022: 1 / (k + SNR)^gamma; with k = gamma = 1 that is 1 - alpha_bar."""
    torch.testing.assert_close(P2().of_eps(any_schedule)[1:], 1 - any_schedule.alpha_bar[1:], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(P2(0.5, k=2.0).of_eps(any_schedule)[1:], (2 + snr) ** -0.5, rtol=1e-12, atol=0)


def test_the_bounds_own_weight_sums_over_time(any_schedule):
    for variance in ("small", "large"):
        weight = BoundWeight(variance).of_eps(any_schedule)
        torch.testing.assert_close(weight[2:], 50 * bound_weight(any_schedule, variance)[2:])
        assert weight[1] == weight[2]


def test_under_a_linear_log_snr_the_simple_loss_is_the_bounds():
    """Up to its scale (Kingma et al. 2021, section 5.1): the weights of all t from 2 on are equal."""
    weights = BoundWeight().of_eps(NoiseSchedule.log_snr_linear(1000))[1:]
    torch.testing.assert_close(weights, weights[:1].expand(1000), rtol=1e-9, atol=0)


@pytest.mark.parametrize("weighting", [Plain("eps"), Plain("x_0"), Plain("v"), SNR(), MinSNR(), P2(), BoundWeight()])
def test_tables_are_finite_and_name_their_formula(any_schedule, weighting):
    table = weighting.of_eps(any_schedule)
    assert (table.dtype, table.shape) == (torch.float64, (51,))
    assert table[0] == 0
    assert table.isfinite().all()
    assert (table[1:] > 0).all()
    assert weighting.formula
