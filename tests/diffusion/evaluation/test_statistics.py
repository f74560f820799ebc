"""Means with standard errors, whole and in parts."""

from math import sqrt

import numpy as np
import pytest

from diffusion.evaluation import Estimate, Spread


def test_standard_error_of_one_to_four() -> None:
    """The variance of 1, 2, 3, 4 is 5/3, so their mean 5/2 has the standard error sqrt(5/12)."""
    estimate = Estimate.of([1.0, 2.0, 3.0, 4.0])
    assert estimate.mean == 2.5
    assert estimate.standard_error == pytest.approx(sqrt(5 / 12), rel=1e-15)


def test_standard_error_covers_the_truth() -> None:
    """Of 2,000 means of 50 normal values, 95% lie within t_{49} = 2.0096 standard errors of the truth."""
    draws = np.random.default_rng(0).standard_normal((2000, 50))
    estimates = [Estimate.of(row) for row in draws]
    covered = np.mean([abs(e.mean) < 2.0096 * e.standard_error for e in estimates])
    assert covered == pytest.approx(0.95, abs=3 * sqrt(0.95 * 0.05 / 2000))


@pytest.mark.parametrize("values", [[], [1.0], [[1.0, 2.0]]])
def test_an_estimate_needs_two_values(values: list[float]) -> None:
    with pytest.raises(ValueError, match="two or more"):
        Estimate.of(values)


def test_an_estimate_names_the_value_that_is_not_finite() -> None:
    with pytest.raises(ValueError, match="value 1 of 3"):
        Estimate.of([1.0, float("nan"), 2.0])


def test_spread_in_parts_equals_the_whole() -> None:
    """Also far from zero, where the sum of squares minus the square of the sum would have no digit left."""
    values = 1e8 + np.random.default_rng(0).standard_normal((100, 3))
    parts = Spread.pooled(Spread.of(chunk) for chunk in np.split(values, [1, 20, 77]))
    assert parts.n == 100
    np.testing.assert_allclose(parts.mean, values.mean(axis=0), rtol=1e-15)
    np.testing.assert_allclose(parts.standard_error, values.std(axis=0, ddof=1) / 10, rtol=1e-7)


def test_spread_of_one_observation_has_no_standard_error() -> None:
    with pytest.raises(ValueError, match="two or more"):
        _ = Spread.of([[1.0, 2.0]]).standard_error


def test_spread_refuses_a_flat_list() -> None:
    with pytest.raises(ValueError, match="shaped"):
        Spread.of([1.0, 2.0])


def test_nothing_to_pool() -> None:
    with pytest.raises(ValueError, match="at least one chunk of observations"):
        Spread.pooled([])
