"""What every measure on features refuses, and how much memory it takes."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

from diffusion.evaluation import frechet_at_infinity, frechet_interval, kid, precision_recall

_REFERENCE = np.random.default_rng(1).standard_normal((50, 3))


def _draws() -> np.random.Generator:
    return np.random.default_rng(0)


MEASURES: dict[str, Callable[[ArrayLike], Any]] = {
    "kid": lambda x: kid(x, _REFERENCE),
    "precision_recall": lambda x: precision_recall(x, _REFERENCE),
    "frechet_interval": lambda x: frechet_interval(x, np.zeros(3), np.eye(3), _draws(), resamples=2),
    "frechet_at_infinity": lambda x: frechet_at_infinity(x, np.zeros(3), np.eye(3), _draws(), groups=2),
}
LEAST = {"kid": 4, "precision_recall": 4, "frechet_interval": 4, "frechet_at_infinity": 8}


@pytest.fixture(params=list(MEASURES))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_fewer_vectors_than_needed(name: str) -> None:
    least = LEAST[name]
    MEASURES[name](_REFERENCE[:least])
    with pytest.raises(ValueError, match=f"the samples must be at least {least} images.*got {least - 1}"):
        MEASURES[name](_REFERENCE[: least - 1])


@pytest.mark.parametrize("image", [0, 7, 1030])
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_the_image_with_a_bad_feature_is_named(name: str, image: int, bad: float) -> None:
    x = np.zeros((1050, 3), dtype=np.float32)
    x[image, 2] = bad
    with pytest.raises(ValueError, match=f"those of image {image} of the samples are not"):
        MEASURES[name](x)


def test_different_features(name: str) -> None:
    with pytest.raises(ValueError, match="same features, got 2 and 3"):
        MEASURES[name](np.random.default_rng(0).standard_normal((50, 2)))


@pytest.mark.parametrize("shape", [(3,), (20, 0), (20, 3, 1)])
def test_features_must_be_rows(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be shaped \(n, d\)"):
        MEASURES[name](np.zeros(shape))


@pytest.mark.parametrize("measure", [kid, precision_recall])
def test_a_bad_reference_is_told_from_bad_samples(measure: Callable[[ArrayLike, ArrayLike], Any]) -> None:
    reference = _REFERENCE.copy()
    reference[5] = np.nan
    with pytest.raises(ValueError, match="image 5 of the reference"):
        measure(_REFERENCE, reference)


@pytest.mark.parametrize("measure", [kid, precision_recall])
def test_no_matrix_of_all_pairs_is_held(measure: Callable[[ArrayLike, ArrayLike], Any]) -> None:
    """4,000 by 4,000 distances would take 122 MiB."""
    x, y = np.random.default_rng(0).standard_normal((2, 4000, 2))
    tracemalloc.start()
    try:
        measure(x, y)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 2**20
