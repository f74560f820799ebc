"""The Fréchet distance without the bias of finitely many samples, on Gaussian features whose distance is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from diffusion.evaluation import Measured, Moments, frechet_at_infinity, frechet_distance

Float64s = NDArray[np.float64]


def _repeated(
    d: int, n: int, shift: float, groups: int = 20, repeats: int = 200
) -> tuple[Float64s, Float64s, Float64s]:
    """Plain distances, and the extrapolated with their standard errors, of unit Gaussians moved by `shift`.

    The true distance is d shift^2.
    """
    rng = np.random.default_rng(0)
    mean, covariance = np.zeros(d), np.eye(d)
    plain, infinite, errors = [], [], []
    for _ in range(repeats):
        x = rng.standard_normal((n, d)) + shift
        moments = Moments.of(x)
        measured = frechet_at_infinity(x, mean, covariance, rng, groups)
        plain.append(frechet_distance(moments.mean, moments.covariance, mean, covariance))
        infinite.append(measured.value)
        errors.append(measured.standard_error)
    return np.array(plain), np.array(infinite), np.array(errors)


@pytest.mark.parametrize(("n", "groups"), [(300, 20), (307, 10), (61, 7)], ids=["even", "uneven", "few"])
def test_it_is_unbiased_where_the_plain_distance_is_not(n: int, groups: int) -> None:
    plain, infinite, errors = _repeated(d=6, n=n, shift=0.3, groups=groups)
    truth = 6 * 0.3**2
    of_mean = infinite.std() / np.sqrt(len(infinite))
    assert infinite.mean() == pytest.approx(truth, abs=3 * of_mean)
    assert plain.mean() - truth > 5 * of_mean
    assert np.mean(errors**2) == pytest.approx(infinite.var(ddof=1), rel=0.4)
    assert 0.90 < np.mean(abs(infinite - truth) < 2.2 * errors) < 0.995  # Student's quantile for some 10 groups


def test_it_is_nearer_to_the_truth_by_far() -> None:
    """At 10 samples for each feature: the bias of the plain distance is most of it."""
    plain, infinite, _ = _repeated(d=24, n=240, shift=0.1, groups=20, repeats=60)
    truth = 24 * 0.1**2
    assert plain.mean() - truth > truth
    assert abs(infinite.mean() - truth) < (plain.mean() - truth) / 20
    assert np.sqrt(np.mean((infinite - truth) ** 2)) < np.sqrt(np.mean((plain - truth) ** 2)) / 6


def test_it_may_be_negative_where_the_distance_is_zero() -> None:
    """Or it would not be unbiased. The standard error is on the safe side there."""
    plain, infinite, errors = _repeated(d=4, n=400, shift=0.0)
    assert 0.2 < np.mean(infinite < 0) < 0.8
    assert abs(infinite.mean()) < plain.mean() / 10
    assert 1 < np.mean(errors**2) / infinite.var(ddof=1) < 3


def test_deleting_single_images_by_hand() -> None:
    """n groups of one image each are the ordinary jackknife: n d_n - (n - 1) mean_i d_{-i}."""
    x = np.random.default_rng(0).standard_normal((12, 2))
    mean, covariance = np.ones(2), np.diag([1.0, 2.0])

    def distance(rows: Float64s) -> float:
        return frechet_distance(rows.mean(axis=0), np.cov(rows, rowvar=False), mean, covariance)

    pseudo = np.array([12 * distance(x) - 11 * distance(np.delete(x, i, axis=0)) for i in range(12)])
    measured = frechet_at_infinity(x, mean, covariance, np.random.default_rng(0), groups=12)
    assert measured == Measured(
        pytest.approx(pseudo.mean(), rel=1e-10), pytest.approx(pseudo.std(ddof=1) / np.sqrt(12), rel=1e-10)
    )


def test_groups_are_drawn() -> None:
    """Samples often come sorted by class: consecutive groups would not be alike."""
    x = np.repeat([[0.0], [10.0]], 100, axis=0) + np.random.default_rng(0).standard_normal((200, 1))
    measured = [frechet_at_infinity(x, [0.0], [[1.0]], np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert measured[0] == measured[1] != measured[2]
    in_order = np.array([part.mean() for part in np.split(x, 20)]).std(ddof=1) / np.sqrt(20)  # of the mean alone
    assert measured[0].standard_error < 2 * x.mean() * in_order


def test_what_is_left_without_a_group_must_have_full_rank() -> None:
    """4 features need 5 images beside the largest group: 6 images in 5 groups leave only 4, 7 leave 5."""
    x = np.random.default_rng(0).standard_normal((7, 4))
    frechet_at_infinity(x, np.zeros(4), np.eye(4), np.random.default_rng(0), groups=5)
    with pytest.raises(ValueError, match="at least 7 images with 4 features, got 6"):
        frechet_at_infinity(x[:6], np.zeros(4), np.eye(4), np.random.default_rng(0), groups=5)


def test_one_group_is_refused() -> None:
    with pytest.raises(ValueError, match="2 groups or more, got 1"):
        frechet_at_infinity(np.zeros((9, 2)), np.zeros(2), np.eye(2), np.random.default_rng(0), groups=1)
