"""The bound and the weights of the losses where x_T is noise alone."""

import pytest
import torch

from diffusion.process import (
    P2,
    SNR,
    BoundWeight,
    GaussianDensity,
    MinSNR,
    NoiseSchedule,
    Plain,
    Variance,
    bound,
    eps_error_scale,
    gaussian_kl,
    log_snr_bins,
    p_reverse,
    prior_kl,
    q_posterior,
    q_sample,
    step_kl,
    target_of,
    to_x_0,
)
from tests.diffusion.samplers.analytic import Mixture

S = NoiseSchedule.linear(50).rescaled_to_zero_snr()
T = torch.tensor([50])


def test_the_prior_costs_nothing(rng):
    x_0 = torch.randn(3, 1, 2, 2, generator=rng)
    assert prior_kl(S, x_0).tolist() == [0, 0, 0]


@pytest.mark.parametrize("target", ["v", "x_0"])
def test_a_perfect_model_knows_x_0_at_T(target, rng):
    x_0, eps = (torch.randn(1, 1, 2, 2, generator=rng, dtype=torch.float64) for _ in range(2))
    x_T = q_sample(S, x_0, T, eps)
    assert torch.equal(x_T, eps)
    torch.testing.assert_close(to_x_0(S, x_T, T, target_of(S, x_0, T, eps, target), target), x_0)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_the_bound_is_finite_and_the_same_for_both_targets(variance, rng):
    data, x_0 = Mixture.gaussian(S), torch.randn(4, 1, 1, 1, generator=rng, dtype=torch.float64)
    eps = torch.randn(4, 1, 1, 1, generator=rng, dtype=torch.float64)
    options = {"noise": lambda t, shape: eps, "decoder": GaussianDensity(), "variance": variance, "clip_x0": False}
    v, x = (bound(getattr(data, name), S, x_0, target=name, chunk=4, **options) for name in ("v", "x_0"))
    assert bool(v.total.isfinite().all())
    torch.testing.assert_close(v.L_t, x.L_t, rtol=1e-7, atol=1e-9)
    with pytest.raises(ValueError, match="says nothing about x_0"):
        bound(data.eps, S, x_0, **options)


@pytest.mark.parametrize("target", ["v", "x_0"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_term_from_the_error_is_the_kl_at_T_too(target, dtype, rng):
    x_0, x_0_hat, eps = (torch.randn(1, 1, 2, 2, generator=rng, dtype=torch.float64) for _ in range(3))
    kl = gaussian_kl(*q_posterior(S, x_0, eps, T), *p_reverse(S, eps, T, x_0_hat, Variance.LARGE))
    error = ((x_0 - x_0_hat) ** 2).to(dtype)  # of v = -x_0 the same
    term = step_kl(S, T, eps_error_scale(S, target)[T].to(dtype) * error, 1.0)
    torch.testing.assert_close(term.double(), kl, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("weighting", "of_v"),
    [
        (Plain("v"), 1.0),
        (SNR(), 0.0),
        (MinSNR(), 0.0),
        (P2(), 0.0),
        # the KL's mean of x_{T-1} has sqrt(alpha_bar_{T-1}) (x_0 - x_0_hat)
        (BoundWeight("large"), 50 * S.alpha_bar[49].item() / 2),
    ],
    ids=str,
)
def test_weights_have_their_limits(weighting, of_v):
    weight = (weighting.of_eps(S) * eps_error_scale(S, "v")).float()
    assert bool(weight.isfinite().all())
    assert weight[50].item() == pytest.approx(of_v, rel=1e-5, abs=1e-12)


def test_the_last_bin_has_the_time_of_zero_snr():
    bins = log_snr_bins(S, 4)
    assert bins.of_index.tolist()[2:-1] == log_snr_bins(S.respaced(range(49, 0, -1)), 4).of_index.tolist()[2:]
    assert bins.of_index[50] == 3
    assert all(abs(middle) < 20 for middle in bins.log_snr)
