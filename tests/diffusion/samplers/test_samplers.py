"""The loop and its samplers against closed forms on Gaussian data, where every step is a known linear map."""

from itertools import pairwise

import pytest
import torch

from diffusion.process import NoiseSchedule
from diffusion.samplers import DDIM, Ancestral, Denoiser, leading, linspaced, sample, trailing
from tests.diffusion.conftest import best_model


def linear_map(s, sampler, times=None, data_variance=1.0):
    """The sampler as a linear map of its inputs: (coefficient of x_T, sum of the squared coefficients of each noise).

    With a linear network x_0 is linear in (x_T, z_1, z_2, ..), so feeding unit vectors gives its coefficients exactly.
    """
    steps = s.T if times is None else len(times)
    model = best_model(s, data_variance)
    rows = steps + 1  # one image per input: x_T alone, then each step's noise alone
    x_T = torch.zeros(rows, 1, 1, 1, dtype=torch.float64)
    x_T[0] = 1

    def noise(k, shape):
        z = torch.zeros(shape, dtype=torch.float64)
        z[1 + k] = 1
        return z

    x_0 = sample(model, s, x_T, sampler, times=times, noise=noise, clip_x0=False).flatten()
    return x_0[0].item(), (x_0[1:] ** 2).sum().item()


@pytest.mark.parametrize("s", [NoiseSchedule.linear(T) for T in (1, 10, 1000)], ids=["1", "10", "1000"])
def test_ancestral_on_standard_normal_data_ends_at_one_minus_beta_1(s):
    of_x_T, of_noise = linear_map(s, Ancestral("large"))
    assert of_x_T**2 + of_noise == pytest.approx(1 - s.beta[1].item(), abs=1e-11)


def test_ancestral_small_ends_at_a_single_point():
    s = NoiseSchedule.linear(100)
    point = 0.4

    def model(x_t, t):  # eps of a point mass at 0.4
        a, b = (c.sqrt()[t].view(-1, 1, 1, 1) for c in (s.alpha_bar, s.one_minus_alpha_bar))
        return (x_t - a * point) / b

    x_T = torch.randn(8, 1, 1, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x_0 = sample(model, s, x_T, Ancestral("small"), noise=lambda k, shape: torch.ones(shape), clip_x0=False)
    torch.testing.assert_close(x_0, torch.full_like(x_0, point), rtol=1e-12, atol=0)


@pytest.mark.parametrize("times", [None, trailing(50, 10), leading(50, 7), linspaced(50, 5)])
def test_ddim_with_eta_one_is_ancestral_with_the_small_variance(any_schedule, times, rng):
    s = any_schedule
    x_T = torch.randn(3, 1, 2, 2, generator=rng, dtype=torch.float64)
    z = [torch.randn(3, 1, 2, 2, generator=rng, dtype=torch.float64) for _ in range(50)]

    def model(x_t, t):
        return torch.tanh(x_t * (1 + t.view(-1, 1, 1, 1) / 50))

    for clip in (True, False):
        options = {"times": times, "noise": lambda k, shape: z[k], "clip_x0": clip}
        one, other = sample(model, s, x_T, DDIM(1.0), **options), sample(model, s, x_T, Ancestral("small"), **options)
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("data_variance", [0.25, 1.0, 2.0])
@pytest.mark.parametrize("times", [None, trailing(50, 10), leading(50, 5)])
def test_ddim_on_gaussian_data_multiplies_by_its_closed_form(any_schedule, data_variance, times):
    """With r_t = eps_hat / x_t = b_t / V_t, V_t = a_t^2 v + b_t^2, a step multiplies x by
    a_s (1 - b_t r_t) / a_t + b_s r_t = (a_s a_t v + b_s b_t) / V_t."""
    s = any_schedule
    visited = [0, *sorted(times or range(1, 51))]
    a, b = s.alpha_bar.sqrt(), s.one_minus_alpha_bar.sqrt()
    product = 1.0
    for before, t in pairwise(visited):
        V = a[t] ** 2 * data_variance + b[t] ** 2
        product *= float((a[before] * a[t] * data_variance + b[before] * b[t]) / V)
    of_x_T, of_noise = linear_map(s, DDIM(0.0), times, data_variance)
    assert of_noise == 0
    assert of_x_T == pytest.approx(product, rel=1e-9)


def test_time_lists():
    assert trailing(1000, 10) == [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100]
    assert leading(1000, 10) == [901, 801, 701, 601, 501, 401, 301, 201, 101, 1]
    assert linspaced(1000, 4) == [1000, 667, 334, 1]
    assert linspaced(9, 1) == [9]
    for T in (1, 2, 7, 50):
        for steps in range(1, T + 1):
            for spacing in (trailing, leading, linspaced):
                times = spacing(T, steps)
                assert len(times) == steps
                assert all(a > b for a, b in pairwise(times))
                assert times[-1] >= 1
                assert times[0] <= T
            assert trailing(T, steps)[0] == T
            assert trailing(T, T) == leading(T, T) == linspaced(T, T) == list(range(T, 0, -1))
    with pytest.raises(ValueError, match=r"1\.\.10, got 11"):
        trailing(10, 11)
    with pytest.raises(ValueError, match="got 0"):
        leading(10, 0)


def test_no_noise_is_asked_for_at_the_last_step(any_schedule):
    asked = []

    def noise(k, shape):
        asked.append(k)
        return torch.zeros(shape)

    x_T = torch.zeros(2, 1, 1, 1)
    sample(lambda x, t: x, any_schedule, x_T, Ancestral(), times=[50, 9, 2], noise=noise)
    assert asked == [0, 1]
    with pytest.raises(ValueError, match="adds noise"):
        sample(lambda x, t: x, any_schedule, x_T, Ancestral())
    sample(lambda x, t: x, any_schedule, x_T, DDIM())  # deterministic: needs none


def test_the_loop_reports_each_step_and_hands_the_network_original_times(any_schedule):
    seen, reported = [], []

    def model(x, t):
        seen.append(t.tolist())
        return x

    sample(
        model, any_schedule, torch.zeros(2, 1, 1, 1), DDIM(), times=[50, 9, 2],
        on_step=lambda k, t, x, x_0_hat: reported.append((k, t, tuple(x.shape), tuple(x_0_hat.shape))),
    )  # fmt: skip
    assert seen == [[50, 50], [9, 9], [2, 2]]
    assert reported == [(k, t, (2, 1, 1, 1), (2, 1, 1, 1)) for k, t in enumerate([9, 2, 0])]


@pytest.mark.parametrize("clip", [True, False])
def test_clipped_predictions_stay_in_range_and_eps_follows(any_schedule, clip):
    s, x_t = any_schedule, torch.tensor([2.0, -0.1]).double().view(2, 1, 1, 1)
    for i in (1, 9, 50):
        x_0_hat, eps_hat, _ = Denoiser(lambda x, t: -3 * x, s, clip)(x_t, i)
        assert bool((x_0_hat.abs() <= 1).all()) is clip  # unclipped, both images are out of range
        again = s.alpha_bar[i].sqrt() * x_0_hat + s.one_minus_alpha_bar[i].sqrt() * eps_hat
        torch.testing.assert_close(again, x_t, rtol=1e-12, atol=0)


def test_divergence_is_named(any_schedule):
    def model(x, t):
        return torch.where(t.view(-1, 1, 1, 1) == 9, torch.nan, x)

    with pytest.raises(ValueError, match=r"not finite for image 0 .* at t = 9"):
        sample(model, any_schedule, torch.zeros(2, 1, 1, 1), DDIM(), times=[50, 9, 2], clip_x0=False)


def test_eta_out_of_range_is_refused():
    with pytest.raises(ValueError, match="eta"):
        DDIM(1.5)
