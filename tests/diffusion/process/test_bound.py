"""The bound against closed forms, in chunks, and what it refuses; Gaussian data are in test_bound_of_gaussians."""

from math import log

import pytest
import torch

from diffusion.process import (
    DiscretizedGaussian,
    GaussianDensity,
    NoiseSchedule,
    NormalizedLevels,
    bound,
    eps_to_x_0,
    prior_kl,
    reverse_variance,
    simple_loss,
    target_of,
    to_unit,
)
from tests.diffusion.conftest import best_model


@pytest.mark.parametrize("target", ["eps", "x_0", "v", "score"])
@pytest.mark.parametrize("clip", [True, False])
def test_the_bound_does_not_depend_on_what_the_network_predicts(any_schedule, target, clip, rng):
    s = any_schedule
    x_0 = to_unit(torch.randint(0, 17, (3, 1, 2, 2), generator=rng), 17).double()
    eps = {t: torch.randn(3, 1, 2, 2, generator=rng, dtype=torch.float64) for t in range(1, 51)}
    said = best_model(s, 0.5)

    def other(x_t, t):
        x_0_hat = eps_to_x_0(s, x_t, t, said(x_t, t))
        return target_of(s, x_0_hat, t, said(x_t, t), target)

    options = {"noise": lambda t, _: eps[t], "decoder": DiscretizedGaussian(17), "clip_x0": clip}
    one, two = bound(said, s, x_0, **options), bound(other, s, x_0, target=target, **options)
    torch.testing.assert_close(two.L_t, one.L_t, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(two.L_0, one.L_0, rtol=1e-6, atol=1e-12)


def test_prior_term(any_schedule):
    """L_T = (a-bar x^2 - a-bar - log(1 - a-bar)) / 2 summed over pixels."""
    s, x_0 = any_schedule, torch.tensor([[1.0, -0.5], [0.0, 0.25]]).double().view(1, 1, 2, 2)
    a = s.alpha_bar[-1]
    exact = 0.5 * (a * (x_0**2).sum() + 4 * (-a - torch.log1p(-a)))
    assert prior_kl(s, x_0).item() == pytest.approx(exact.item(), rel=1e-9)


def test_units_are_bits_per_dimension(any_schedule):
    """The same pixel repeated costs the same per dimension."""
    s, eps = any_schedule, torch.full((1, 1, 1, 1), 0.3).double()
    one = torch.full((1, 1, 1, 1), 0.5).double()

    def measure(shape):
        x_0, options = one.expand(shape), {"clip_x0": False, "decoder": GaussianDensity()}
        return bound(best_model(s), s, x_0, noise=lambda t, _: eps.expand(shape), **options)

    small, large = measure((1, 1, 1, 1)), measure((1, 3, 4, 2))
    for name in ("L_T", "L_t", "L_0", "total"):
        torch.testing.assert_close(getattr(small, name), getattr(large, name), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("chunk", [1, 3, 4, 7, 64, 1000])
@pytest.mark.parametrize("times", [None, [40, 12, 5]])
def test_chunks_change_nothing(any_schedule, chunk, times, rng):
    s = any_schedule
    x_0 = to_unit(torch.randint(0, 17, (4, 1, 2, 2), generator=rng), 17).double()
    eps = {t: torch.randn(4, 1, 2, 2, generator=rng, dtype=torch.float64) for t in range(1, 51)}
    asked = []

    def noise(t, shape):
        asked.append((t, tuple(shape)))
        return eps[t]

    options = {"decoder": DiscretizedGaussian(17), "times": times}
    whole = bound(best_model(s), s, x_0, noise=lambda t, _: eps[t], chunk=4, **options)
    terms = bound(best_model(s), s, x_0, noise=noise, chunk=chunk, **options)
    assert asked == [(t, (4, 1, 2, 2)) for t in sorted(times or range(1, 51))]  # once per t, with the whole shape
    torch.testing.assert_close(terms.total, whole.total, rtol=1e-13, atol=0)
    torch.testing.assert_close(terms.L_t, whole.L_t, rtol=1e-12, atol=1e-15)


def test_images_in_float32_lose_no_digits(any_schedule, rng):
    """Only what the network sees is rounded: at small t the terms divide tiny differences by tiny variances."""
    s, x_0 = any_schedule, to_unit(torch.randint(0, 17, (4, 1, 2, 2), generator=rng), 17)
    eps = {t: torch.randn(4, 1, 2, 2, generator=rng) for t in range(1, 51)}

    def model(x_t, t):  # exact in float32, however its input is rounded
        return torch.ones_like(x_t)

    one, other = (
        bound(model, s, x, noise=lambda t, _: eps[t], decoder=GaussianDensity(), clip_x0=False)
        for x in (x_0, x_0.double())
    )
    torch.testing.assert_close(one.L_t, other.L_t, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(one.total, other.total, rtol=1e-6, atol=0)


def test_each_row_is_told_its_images_label(any_schedule):
    seen = []

    def model(x_t, t, y):
        seen.extend(zip(t.tolist(), y.tolist(), strict=True))
        return x_t

    x_0, y = torch.zeros(3, 1, 1, 1), torch.tensor([4, 5, 6])
    bound(
        model, any_schedule, x_0, noise=lambda t, sh: torch.zeros(sh), times=[9, 3], y=y, chunk=2,
        decoder=GaussianDensity(),
    )  # fmt: skip
    assert sorted(seen) == [(t, label) for t in (3, 9) for label in (4, 5, 6)]


def test_the_network_sees_the_original_times(any_schedule):
    seen = []

    def model(x_t, t):
        seen.extend(t.tolist())
        return x_t

    x_0 = torch.zeros(1, 1, 1, 1)
    bound(model, any_schedule, x_0, noise=lambda t, sh: torch.zeros(sh), times=[50, 20, 3], decoder=GaussianDensity())
    assert sorted(seen) == [3, 20, 50]


def test_clipping_changes_the_number(any_schedule):
    s = any_schedule
    x_0, eps = torch.ones(1, 1, 1, 1).double(), torch.full((1, 1, 1, 1), 2.0).double()

    def measure(clip):
        return bound(
            lambda x, t: 0 * x, s, x_0, noise=lambda t, _: eps, clip_x0=clip, decoder=DiscretizedGaussian(17)
        ).total.item()

    assert measure(True) < measure(False)


def test_decoders_measure_at_the_first_time(any_schedule):
    """Whatever the network says, L_0 of the levels decoder is that of x_t at the smallest time."""
    s = any_schedule.respaced([50, 8])
    x_0, eps = torch.ones(1, 1, 1, 1).double(), torch.full((1, 1, 1, 1), -1.5).double()
    decoder = NormalizedLevels(2)
    terms = bound(lambda x, t: 0 * x, any_schedule, x_0, noise=lambda t, _: eps, times=[50, 8], decoder=decoder)
    a, b = s.alpha_bar[1].sqrt(), s.one_minus_alpha_bar[1].sqrt()
    x_1 = a - 1.5 * b
    expected = torch.log1p(torch.exp(-2 * x_1 * a / b**2)) / log(2)
    assert terms.L_0.item() == pytest.approx(expected.item(), rel=1e-9)


def test_bad_models_and_images_are_refused(any_schedule):
    x_0 = torch.zeros(2, 1, 2, 2)
    options = {"noise": lambda t, sh: torch.zeros(sh), "decoder": GaussianDensity()}
    with pytest.raises(ValueError, match=r"must return the shape of x_t, \(2, 1, 2, 2\), got \(2, 2, 2, 2\)"):
        bound(lambda x, t: torch.cat([x, x], 1), any_schedule, x_0, chunk=2, **options)
    with pytest.raises(ValueError, match="at least one image"):
        bound(lambda x, t: x, any_schedule, x_0[:0], **options)

    def diverges(x, t):
        x = x.clone()
        x[1] = torch.where(t[1] == 7, torch.nan, 0.0)
        return x

    with pytest.raises(ValueError, match=r"not finite for image 1 .* t = 7"):
        bound(diverges, any_schedule, x_0, chunk=2, **options)


@pytest.mark.parametrize("decoder", [DiscretizedGaussian(17), NormalizedLevels(17)])
@pytest.mark.parametrize("value", [0.01, 1.125, -1.5, float("nan")])
def test_images_off_the_levels_are_refused_before_the_network_is_called(any_schedule, decoder, value):
    x_0 = torch.zeros(2, 1, 2, 2)
    x_0[1, 0, 1, 0] = value
    with pytest.raises(ValueError, match=r"17 levels of \[-1, 1\]"):
        bound(
            lambda x, t: pytest.fail("called"), any_schedule, x_0, noise=lambda t, sh: torch.zeros(sh), decoder=decoder
        )


@pytest.mark.parametrize("times", [[3, 9], [9, 9, 3], [51, 3], [3, 0], []])
def test_times_out_of_range_or_order_are_refused(any_schedule, times):
    x_0 = torch.zeros(2, 1, 2, 2)
    with pytest.raises(ValueError, match="times must"):
        bound(
            lambda x, t: x,
            any_schedule,
            x_0,
            noise=lambda t, sh: torch.zeros(sh),
            decoder=GaussianDensity(),
            times=times,
        )


def test_noise_and_labels_of_another_number_of_images_are_refused(any_schedule):
    """Broadcast, they would give every image the same noise, or none its own label."""
    x_0, options = torch.zeros(2, 1, 2, 2), {"decoder": GaussianDensity(), "chunk": 2}
    with pytest.raises(ValueError, match=r"noise must have the shape of x_0: wanted \(2, 1, 2, 2\)"):
        bound(lambda x, t: x, any_schedule, x_0, noise=lambda t, sh: torch.zeros(1, 1, 2, 2), **options)
    with pytest.raises(ValueError, match="a label for each of the 2 images"):
        bound(
            lambda x, t, y: x,
            any_schedule,
            x_0,
            noise=lambda t, sh: torch.zeros(sh),
            y=torch.zeros(3).long(),
            **options,
        )


def test_simple_loss_by_hand():
    s = NoiseSchedule.from_betas([0.36])
    x_0, eps = torch.zeros(2, 1, 1, 2), torch.tensor([[1.0, 3.0], [2.0, 0.0]]).view(2, 1, 1, 2)
    loss = simple_loss(lambda x, t: 0 * x, s, x_0, torch.tensor([1, 1]), eps)
    assert loss.tolist() == pytest.approx([5.0, 2.0])  # (1 + 9) / 2, (4 + 0) / 2


def test_every_variance_is_positive_where_the_bound_divides_by_it(any_schedule):
    for kind in ("small", "large"):
        assert (reverse_variance(any_schedule, kind)[1:] > 0).all()
