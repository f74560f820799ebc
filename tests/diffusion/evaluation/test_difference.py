"""Differences between two numbers: closed forms, and how often equal ones are told apart."""

from math import inf, sqrt

import numpy as np
import pytest
from scipy import stats

from diffusion.evaluation import Difference, Measured, paired, unpaired, welch


def test_paired_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, standard error sqrt(1/3), t = 2 sqrt(3) with two degrees of freedom.

    Its distribution function is 1/2 + t / (2 sqrt(2 + t^2)): 1/2 + sqrt(12/14) / 2.
    """
    found = paired([5.0, 1.0, 0.0], [6.0, 3.0, 3.0])
    assert (found.value, found.degrees) == (2.0, 2)
    assert found.standard_error == pytest.approx(sqrt(1 / 3), rel=1e-15)
    assert found.probability == pytest.approx(0.5 + sqrt(12 / 14) / 2, rel=1e-14)


def test_unpaired_adds_the_variances() -> None:
    found = unpaired(Measured(5.0, 3.0), Measured(10.0, 4.0))
    assert (found.value, found.standard_error, found.degrees) == (5.0, 5.0, inf)
    assert found.probability == pytest.approx(stats.norm.cdf(1.0), rel=1e-14)


def test_welch_is_scipys() -> None:
    x, y = [1.0, 2.0, 4.0], [3.0, 3.5, 5.0, 9.0]
    theirs = stats.ttest_ind(y, x, equal_var=False, alternative="less")
    found = welch(x, y)
    assert found.degrees == pytest.approx(theirs.df, rel=1e-13)
    assert found.probability == pytest.approx(theirs.pvalue, rel=1e-12)


def test_a_difference_without_an_error_is_certain() -> None:
    assert [Difference(value, 0.0).probability for value in (-1.0, 0.0, 1.0)] == [0.0, 0.5, 1.0]
    assert welch([1.0, 1.0], [2.0, 2.0]).probability == 1.0


@pytest.mark.parametrize("kind", ["paired", "welch"])
def test_equal_ones_are_called_different_once_in_twenty(kind: str) -> None:
    """4,000 pairs of samples of one law: the share beyond 2.5% on either side is 5%, within three standard errors."""
    draws = np.random.default_rng(0)
    tests = {"paired": lambda: paired(*draws.normal(size=(2, 12))), "welch": lambda: welch(*draws.normal(size=(2, 6)))}
    found = [tests[kind]().probability for _ in range(4000)]
    share = np.mean([p < 0.025 or p > 0.975 for p in found])
    assert share == pytest.approx(0.05, abs=3 * sqrt(0.05 * 0.95 / 4000))


def test_pairs_must_be_pairs() -> None:
    with pytest.raises(ValueError, match="same length"):
        paired([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="two or more"):
        paired([1.0], [2.0])
