"""The bootstrap interval of the Fréchet distance: what it covers on Gaussian features."""

import numpy as np
import pytest
from numpy.typing import NDArray

from diffusion.evaluation import FrechetInterval, Moments, frechet_distance, frechet_interval

Float64s = NDArray[np.float64]

_D = 4
_MEAN, _COVARIANCE = np.zeros(_D), np.eye(_D)


def _samples(rng: np.random.Generator, n: int, shift: float, scale: float) -> Float64s:
    return rng.standard_normal((n, _D)) * scale + shift


def _distance(x: Float64s) -> float:
    moments = Moments.of(x)
    return frechet_distance(moments.mean, moments.covariance, _MEAN, _COVARIANCE)


def _interval(x: Float64s, seed: int = 0, resamples: int = 100, level: float = 0.95) -> FrechetInterval:
    return frechet_interval(x, _MEAN, _COVARIANCE, np.random.default_rng(seed), resamples, level)


def _covered(n: int, shift: float, scale: float) -> tuple[float, float]:
    """How often it holds the biased expectation at n, and the mean of s^2 over the variance of the distance."""
    rng = np.random.default_rng(0)
    distances = [_distance(_samples(rng, n, shift, scale)) for _ in range(4000)]
    intervals = [_interval(_samples(rng, n, shift, scale), seed) for seed in range(300)]
    expectation = np.mean(distances)
    held = [interval.low <= expectation <= interval.high for interval in intervals]
    return float(np.mean(held)), float(np.mean([i.standard_error**2 for i in intervals]) / np.var(distances))


@pytest.mark.parametrize(("n", "shift", "scale"), [(100, 0.5, 0.7), (300, 0.3, 1.2)])
def test_it_covers_the_expectation_at_that_number_of_images(n: int, shift: float, scale: float) -> None:
    held, inflation = _covered(n, shift, scale)
    assert 0.90 < held < 0.98
    assert inflation == pytest.approx(1, abs=0.25)


def test_it_is_too_wide_where_the_distance_is_all_bias() -> None:
    """With the reference's own law resampled distances have about three times the variance of the distance."""
    held, inflation = _covered(150, 0.0, 1.0)
    assert held > 0.98
    assert inflation == pytest.approx(3, abs=0.6)


def test_its_value_is_the_plain_distance_in_blocks() -> None:
    x = _samples(np.random.default_rng(0), 5000, 0.3, 1.0)
    interval = _interval(x, resamples=20)
    assert interval.value == pytest.approx(_distance(x), rel=1e-12)
    assert interval.high - interval.value == pytest.approx(1.959964 * interval.standard_error, rel=1e-6)
    assert interval.value - interval.low == pytest.approx(interval.high - interval.value, rel=1e-12)


def test_it_depends_on_the_seed_alone_and_widens_with_the_level() -> None:
    x = _samples(np.random.default_rng(0), 100, 0.5, 1.0)
    assert _interval(x, seed=3) == _interval(x, seed=3) != _interval(x, seed=4)
    assert _interval(x, level=0.99).high > _interval(x, level=0.95).high
    assert _interval(_samples(np.random.default_rng(0), 20, 0.0, 1.0), level=0.9999).low == 0


@pytest.mark.parametrize(("resamples", "level"), [(1, 0.95), (100, 0.0), (100, 1.0)])
def test_bad_arguments(resamples: int, level: float) -> None:
    with pytest.raises(ValueError, match="2 resamples or more"):
        _interval(np.zeros((10, _D)), resamples=resamples, level=level)
