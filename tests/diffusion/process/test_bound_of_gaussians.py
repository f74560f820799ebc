"""The bound of Gaussian data, whose best network is known: the entropy, and every term; all in float64."""

from math import e, log, pi

import pytest
import torch

from diffusion.process import GaussianDensity, NoiseSchedule, bound, gaussian_kl, reverse_variance
from tests.diffusion.conftest import best_model, sign_pairs

ENTROPY = 0.5 * log(2 * pi * e) / log(2)  # of N(0, 1), in bits


def oracle_bound(s: NoiseSchedule, **options):
    x_0, eps = sign_pairs()
    options = {"variance": "large", "clip_x0": False, "decoder": GaussianDensity()} | options
    return bound(best_model(s), s, x_0, noise=lambda t, shape: eps, **options)


@pytest.mark.parametrize(
    "s",
    [NoiseSchedule.linear(T) for T in (1, 10, 1000)]
    + [NoiseSchedule.cosine(T) for T in (1, 10, 1000)]
    + [NoiseSchedule.log_snr_linear(T) for T in (2, 10, 1000)],
    ids=lambda s: str(s.T),
)
def test_bound_of_the_best_network_is_the_entropy(s):
    """For x_0 ~ N(0, 1) and sigma_t^2 = beta_t the reverse chain is the forward chain reversed: no gap at all."""
    assert oracle_bound(s).total.mean().item() == pytest.approx(ENTROPY, abs=1e-11)


def reversing_model(s: NoiseSchedule, mean: float, variance: float):
    """The network that reverses the chain of N(mean, variance) data exactly, variances included.

    p(x_{t-1} | x_t) is Gaussian, and its variance is beta_tilde_t plus what is not known of x_0.
    """
    a, b = s.alpha_bar.sqrt(), s.one_minus_alpha_bar.sqrt()
    seen = s.alpha_bar * variance + s.one_minus_alpha_bar  # Var x_t
    unknown = variance * s.one_minus_alpha_bar / seen  # Var(x_0 | x_t)
    previous = torch.cat([s.alpha_bar[:1], s.alpha_bar[:-1]])
    of_x_0 = previous.sqrt() * s.beta / s.one_minus_alpha_bar
    exact = s.beta_tilde + of_x_0**2 * unknown
    small, large = (reverse_variance(s, kind) for kind in ("small", "large"))
    v = (exact.log() - small.log()) / (large.log() - small.log())

    def model(x_t, t):
        eps_hat = (b[t] / seen[t]).view(-1, 1, 1, 1) * (x_t - a[t].view(-1, 1, 1, 1) * mean)
        return torch.cat([eps_hat, (2 * v[t] - 1).view(-1, 1, 1, 1).expand_as(x_t)], dim=1)

    return model


@pytest.mark.parametrize("make", [NoiseSchedule.linear, NoiseSchedule.cosine, NoiseSchedule.log_snr_linear])
@pytest.mark.parametrize("T", [2, 10, 1000])
@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (0.3, 0.5), (-0.2, 0.05), (0.0, 2.0)])
def test_bound_of_the_reversed_chain_is_the_entropy_of_any_gaussian(make, T, mean, deviation):
    """With the learned variance of the exact reverse the gap is that of the prior alone: KL(q(x_T) || N(0, 1))."""
    s = make(T)
    x_0, eps = sign_pairs()
    terms = bound(
        reversing_model(s, mean, deviation**2),
        s,
        mean + deviation * x_0,
        noise=lambda t, shape: eps,
        variance="learned",
        clip_x0=False,
        decoder=GaussianDensity(),
    )
    a = s.alpha_bar[-1]
    q_T = a.sqrt() * mean, a * deviation**2 + s.one_minus_alpha_bar[-1]
    gap = gaussian_kl(*q_T, torch.tensor(0.0).double(), torch.tensor(1.0).double())
    expected = 0.5 * log(2 * pi * e * deviation**2) + gap.item()
    assert terms.total.mean().item() * log(2) == pytest.approx(expected, abs=1e-9)


def test_bound_of_a_respaced_process_is_the_bound_of_that_process():
    s = NoiseSchedule.linear(1000)
    terms = oracle_bound(s, times=[1000, 400, 90, 7])
    assert terms.times.tolist() == [7, 90, 400, 1000]
    assert terms.L_t.shape == (4, 3)
    assert terms.total.mean().item() == pytest.approx(ENTROPY, abs=1e-11)


@pytest.mark.parametrize("data_variance", [0.25, 1.0, 3.0])
def test_terms_of_the_best_network_for_other_variances(any_schedule, data_variance):
    """x_0 ~ N(0, v), sigma_t^2 = beta_tilde_t: E[L_{t-1}] = w_t E(eps - eps_hat)^2 with E(eps - eps_hat)^2 =
    a-bar v / (a-bar v + 1 - a-bar) and w_t = beta_t^2 / (2 sigma_t^2 alpha_t (1 - a-bar_t)) (eq. 12; C = 0 here)."""
    s = any_schedule
    x_0, eps = sign_pairs()
    terms = bound(
        best_model(s, data_variance),
        s,
        x_0 * data_variance**0.5,
        noise=lambda t, shape: eps,
        variance="small",
        clip_x0=False,
        decoder=GaussianDensity(),
    )
    a = s.alpha_bar[2:]
    error = a * data_variance / (a * data_variance + 1 - a)
    weight = s.beta[2:] ** 2 / (2 * s.beta_tilde[2:] * s.alpha[2:] * (1 - a))
    torch.testing.assert_close(terms.L_t.mean(dim=0) * log(2), weight * error, rtol=1e-8, atol=1e-12)


def test_ddpm_weight_is_half_the_snr_difference(any_schedule):
    """Of ||x_0 - x_0_hat||^2 = (1 - a-bar) / a-bar ||eps - eps_hat||^2 (Kingma et al. 2021, eq. 14)."""
    s = any_schedule
    a = s.alpha_bar[2:]
    ddpm = s.beta[2:] ** 2 / (2 * s.beta_tilde[2:] * s.alpha[2:] * (1 - a)) * a / (1 - a)
    torch.testing.assert_close(ddpm, (s.snr[1:-1] - s.snr[2:]) / 2, rtol=1e-8, atol=1e-12)


def test_the_large_variance_carries_its_constant(any_schedule):
    """For a perfect network the KL is only that of the variances, beta_tilde_t against beta_t: not zero."""
    s = any_schedule
    x_0 = torch.zeros(1, 1, 1, 1).double()
    eps = torch.ones(1, 1, 1, 1).double()
    options = {"variance": "large", "clip_x0": False, "decoder": GaussianDensity()}
    terms = bound(lambda x, t: torch.ones_like(x), s, x_0, noise=lambda t, _: eps, **options)
    zero = torch.zeros(1).double()
    expected = gaussian_kl(zero, s.beta_tilde[2:], zero, s.beta[2:])
    torch.testing.assert_close(terms.L_t[0] * log(2), expected, rtol=1e-7, atol=1e-12)
    assert (expected > 0).all()
