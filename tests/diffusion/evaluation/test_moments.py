"""Mean and covariance, whole and in chunks."""

import numpy as np
import pytest

from diffusion.evaluation import Moments


def test_moments_of_a_square() -> None:
    """The corners (+-1, +-1): mean 0, variances 4/3, uncorrelated."""
    moments = Moments.of([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    np.testing.assert_array_equal(moments.mean, [0, 0])
    np.testing.assert_allclose(moments.covariance, [[4 / 3, 0], [0, 4 / 3]], rtol=1e-15)


@pytest.mark.parametrize("cuts", [[1], [500], [1, 2, 3, 999], [128, 256, 384, 512, 640]])
def test_chunks_equal_the_whole(cuts: list[int]) -> None:
    """Float32 features with means far from zero, as a network gives them."""
    rng = np.random.default_rng(0)
    features = (rng.standard_normal((1000, 5)) @ rng.standard_normal((5, 5)) + 100).astype(np.float32)
    pooled = Moments.pooled(Moments.of(chunk) for chunk in np.split(features, cuts))
    exact = features.astype(np.float64)
    assert pooled.n == 1000
    np.testing.assert_allclose(pooled.mean, exact.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(pooled.covariance, np.cov(exact, rowvar=False), rtol=1e-11, atol=1e-11)


def test_one_vector_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="two or more"):
        _ = Moments.of([[1.0, 2.0]]).covariance


def test_the_image_with_a_bad_feature_is_named() -> None:
    with pytest.raises(ValueError, match="image 1 of the chunk"):
        Moments.of([[1.0, 2.0], [np.inf, 0.0]])


@pytest.mark.parametrize("shape", [(0, 3), (3,), (2, 2, 2)])
def test_features_must_be_rows(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shaped"):
        Moments.of(np.zeros(shape))


def test_nothing_to_pool() -> None:
    with pytest.raises(ValueError, match="at least one chunk of features"):
        Moments.pooled([])


@pytest.mark.parametrize("cut", [1, 400, 998])
def test_without_a_part_is_the_rest(cut: int) -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((1000, 5)) @ rng.standard_normal((5, 5)) + 100
    part, rest = Moments.of(features[:cut]), Moments.of(features[cut:])
    left = Moments.pooled([part, rest]).without(part)
    assert left.n == 1000 - cut
    np.testing.assert_allclose(left.mean, rest.mean, rtol=1e-12)
    np.testing.assert_allclose(left.scatter, rest.scatter, rtol=1e-9, atol=1e-9)
