"""The three decoders: their probabilities are probabilities."""

from math import erf, log, sqrt

import pytest
import torch

from diffusion.process import DiscretizedGaussian, FirstStep, GaussianDensity, NormalizedLevels, to_levels, to_unit


def first(x_1: float, mean: float, variance: float, n: int, alpha_bar: float = 0.9) -> FirstStep:
    full = torch.ones(n, 1, 1, 1, dtype=torch.float64)
    return FirstStep(x_1 * full, alpha_bar * full, (1 - alpha_bar) * full, mean * full, variance * full)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("decoder", [DiscretizedGaussian, NormalizedLevels])
@pytest.mark.parametrize(("x_1", "variance"), [(0.1, 0.5), (0.99, 1e-4), (-3.0, 1e-2), (0.5, 30.0)])
def test_probabilities_of_all_levels_sum_to_one(decoder, levels, x_1, variance):
    every_level = to_unit(torch.arange(levels), levels).double().view(-1, 1, 1, 1)
    nats = decoder(levels).log_likelihood(every_level, first(x_1, x_1, variance, levels, alpha_bar=1 / (1 + variance)))
    assert nats.exp().sum().item() == pytest.approx(1.0, abs=1e-12)


def test_discretized_gaussian_is_the_integral_over_the_bin():
    levels, mean, sigma = 5, 0.2, 0.3  # levels at -1, -1/2, 0, 1/2, 1; bins of half-width 1/4
    nats = DiscretizedGaussian(levels).log_likelihood(
        torch.tensor([-1.0, 0.5, 1.0]).double().view(3, 1, 1, 1), first(0.0, mean, sigma**2, 3)
    )

    def phi(x: float) -> float:
        return 0.5 * (1 + erf((x - mean) / sigma / sqrt(2)))

    exact = [log(phi(-0.75)), log(phi(0.75) - phi(0.25)), log(1 - phi(0.75))]
    assert nats.flatten().tolist() == pytest.approx(exact, rel=1e-12)


def test_the_tails_belong_to_the_pixel_not_to_the_mean():
    nats = DiscretizedGaussian(256).log_likelihood(torch.ones(1, 1, 1, 1).double(), first(0.0, 5.0, 0.01, 1))
    assert nats.item() == pytest.approx(0.0, abs=1e-12)  # a mean beyond white is surely white


def test_normalized_levels_by_hand():
    # two levels, a = 0.6, b^2 = 0.64, x_1 = 0.3: log p(+1) = -log(1 + exp(-2 * 0.3 * 0.6 / 0.64))
    nats = NormalizedLevels(2).log_likelihood(torch.ones(1, 1, 1, 1).double(), first(0.3, 9.0, 9.0, 1, alpha_bar=0.36))
    assert nats.item() == pytest.approx(-log(1 + 2.718281828459045 ** (-2 * 0.3 * 0.6 / 0.64)), rel=1e-12)


def test_gaussian_density_is_the_density():
    nats = GaussianDensity().log_likelihood(torch.zeros(1, 1, 1, 1).double(), first(0.0, 2.0, 4.0, 1))
    assert nats.item() == pytest.approx(-0.5 - 0.5 * log(8 * 3.141592653589793), rel=1e-12)


@pytest.mark.parametrize("decoder", [DiscretizedGaussian(17), NormalizedLevels(17)])
@pytest.mark.parametrize("value", [0.01, 1.2, float("nan")])
def test_images_off_the_levels_are_refused(decoder, value):
    with pytest.raises(ValueError, match="17 levels"):
        decoder.log_likelihood(torch.full((1, 1, 1, 1), value), first(0.0, 0.0, 1.0, 1))


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_levels_round_trip_and_rounding(levels):
    every = torch.arange(levels, dtype=torch.uint8)
    assert torch.equal(to_levels(to_unit(every, levels), levels), every)
    nudged = to_unit(every, levels) + 0.98 / (levels - 1)  # just under half a level up
    assert torch.equal(to_levels(nudged, levels), every)
    assert torch.equal(to_levels(to_unit(every, levels) - 0.98 / (levels - 1), levels), every)  # truncation would not
    assert to_levels(torch.tensor([-7.0, 7.0]), levels).tolist() == [0, levels - 1]
