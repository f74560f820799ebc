"""The Fréchet distance against closed forms and against clean-fid."""

import numpy as np
import pytest
from numpy.typing import NDArray

from diffusion.evaluation import Moments, check_full_rank, frechet_distance

Float64s = NDArray[np.float64]

calls_sqrtm = pytest.mark.filterwarnings("ignore:The `disp` argument is deprecated:DeprecationWarning")
"""clean-fid's way of calling SciPy, which SciPy 1.17 warns of and 1.18 refuses."""


def _covariance(rng: np.random.Generator, d: int) -> Float64s:
    root = rng.standard_normal((d, 2 * d))
    return root @ root.T / (2 * d)


def test_one_dimension() -> None:
    """(m_1 - m_2)^2 + (s_1 - s_2)^2 with deviations 2 and 5: 9 + 9."""
    assert frechet_distance([1.0], [[4.0]], [4.0], [[25.0]]) == pytest.approx(18, rel=1e-14)


def test_diagonal_covariances() -> None:
    """Tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)) is the squared distance of the deviations, here 3^2 + 1^2."""
    value = frechet_distance([0, 0], np.diag([1.0, 9.0]), [1, 2], np.diag([16.0, 4.0]))
    assert value == pytest.approx((1 + 4) + (9 + 1), rel=1e-14)


def test_commuting_covariances_in_a_turned_basis() -> None:
    """The same in a basis turned by 30 degrees: distances do not see the basis."""
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    R = np.array([[c, -s], [s, c]])
    value = frechet_distance([0, 0], R @ np.diag([1.0, 9.0]) @ R.T, R @ [1, 2], R @ np.diag([16.0, 4.0]) @ R.T)
    assert value == pytest.approx(15, rel=1e-13)


def test_two_by_two_that_do_not_commute() -> None:
    """In two dimensions Tr (S_1 S_2)^(1/2) = sqrt(Tr(S_1 S_2) + 2 sqrt(det S_1 S_2)); here sqrt(8 + 2 sqrt(9))."""
    S_1, S_2 = [[2.0, 1.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, 3.0]]
    assert frechet_distance([0, 0], S_1, [0, 0], S_2) == pytest.approx(8 - 2 * np.sqrt(8 + 6), rel=1e-14)


def test_a_point_against_a_gaussian() -> None:
    """A point has covariance 0: the distance is |m|^2 + Tr S, from both sides."""
    S = [[2.0, 1.0], [1.0, 3.0]]
    zero = np.zeros((2, 2))
    assert frechet_distance([3, 4], zero, [0, 0], S) == pytest.approx(30, rel=1e-14)
    assert frechet_distance([3, 4], S, [0, 0], zero) == pytest.approx(30, rel=1e-14)


def test_equal_gaussians_are_at_distance_zero_and_never_below() -> None:
    S = _covariance(np.random.default_rng(0), 64)
    value = frechet_distance(np.ones(64), S, np.ones(64), S)
    assert 0 <= value < 1e-10 * np.trace(S)


@calls_sqrtm
@pytest.mark.parametrize("d", [2, 16, 64, 200])
def test_agreement_with_clean_fid(d: int) -> None:
    from cleanfid.fid import frechet_distance as clean_fid

    rng = np.random.default_rng(d)
    gaussians = (rng.standard_normal(d), _covariance(rng, d), rng.standard_normal(d), _covariance(rng, d))
    assert frechet_distance(*gaussians) == pytest.approx(clean_fid(*gaussians), rel=1e-6)


@calls_sqrtm
def test_agreement_with_clean_fid_on_features_of_small_variance_in_most_directions() -> None:
    """The spectrum of real features falls over eight orders of magnitude."""
    from cleanfid.fid import frechet_distance as clean_fid

    rng = np.random.default_rng(0)
    scales = np.logspace(0, -4, 48)
    features = rng.standard_normal((2, 1000, 48)) * scales
    one, two = (Moments.of(x @ np.linalg.qr(rng.standard_normal((48, 48)))[0]) for x in features)
    gaussians = (one.mean, one.covariance, two.mean, two.covariance)
    assert frechet_distance(*gaussians) == pytest.approx(clean_fid(*gaussians), rel=1e-6)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (([0.0, 0.0], np.eye(2)), "same features"),
        (([0.0], np.eye(2)), r"\(d, d\)"),
        (([0.0, 0.0, np.nan], np.eye(3)), "finite"),
        (([0.0, 0.0, 0.0], [[1.0, 2.0, 0], [0, 1.0, 0], [0, 0, 1.0]]), "symmetric"),
    ],
)
def test_bad_arguments(second: tuple[list[float], Float64s], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frechet_distance([0.0, 0.0, 0.0], np.eye(3), *second)


@pytest.mark.parametrize("turn", [1, -1], ids=["first", "second"])
def test_a_matrix_with_a_negative_eigenvalue_is_no_covariance(turn: int) -> None:
    one, other = (np.diag([1.0, -1.0]), np.eye(2))[::turn]
    with pytest.raises(ValueError, match="semi-definite"):
        frechet_distance([0.0, 0.0], one, [0.0, 0.0], other)


def test_as_many_images_as_features_are_too_few() -> None:
    features = np.random.default_rng(0).standard_normal((5, 4))
    check_full_rank(Moments.of(features), "the test")
    with pytest.raises(ValueError, match=r"singular with 4 images: it needs at least 5"):
        check_full_rank(Moments.of(features[:4]), "the test")


def test_features_that_depend_on_one_another_are_singular() -> None:
    x = np.random.default_rng(0).standard_normal((50, 3))
    repeated = np.column_stack([x, x.sum(axis=1)])
    with pytest.raises(ValueError, match="only 3 directions vary"):
        check_full_rank(Moments.of(repeated), "the test")
