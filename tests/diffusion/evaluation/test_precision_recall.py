"""Precision, recall, density and coverage against their definitions and in cases that are known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from diffusion.evaluation import PrecisionRecall, precision_recall
from diffusion.evaluation.precision_recall import _squared_distances

Float64s = NDArray[np.float64]


def _by_definition(x: Float64s, y: Float64s, k: int) -> PrecisionRecall:
    """With all distances, each from the difference of its two vectors."""

    def distances(a: Float64s, b: Float64s) -> Float64s:
        return np.linalg.norm(a[:, None] - b[None], axis=2)

    between = distances(x, y)
    radius_x, radius_y = (np.sort(distances(z, z), axis=1)[:, k] for z in (x, y))  # 0 is the vector itself
    held = between <= radius_y
    return PrecisionRecall(
        precision=held.any(axis=1).mean(),
        recall=(between <= radius_x[:, None]).any(axis=0).mean(),
        density=held.sum() / (k * len(x)),
        coverage=held.any(axis=0).mean(),
    )


def _equal(one: PrecisionRecall, other: PrecisionRecall) -> bool:
    return vars(one) == pytest.approx(vars(other), rel=1e-14)


@pytest.mark.parametrize(("n", "m"), [(40, 70), (1100, 300), (300, 2100)])
@pytest.mark.parametrize("k", [1, 3])
def test_by_the_definition(n: int, m: int, k: int) -> None:
    rng = np.random.default_rng(n)
    x, y = rng.standard_normal((n, 3)) * 0.8 + 0.5, rng.standard_normal((m, 3))
    assert _equal(precision_recall(x, y, k), _by_definition(x, y, k))


def test_points_on_a_line_by_hand() -> None:
    """k = 1. Reference 0, 1, 10: radii 1, 1, 9. Samples 1.5, 2, 30: radii 0.5, 0.5, 28.

    1.5 and 2 lie in the balls [0, 2] of 1 and [1, 19] of 10; 30 in none. Of the reference only the ball of 0 is empty;
    the balls of the samples are [1, 2], [1.5, 2.5] and [2, 58], which hold 1 and 10.
    """
    measured = precision_recall([[1.5], [2.0], [30.0]], [[0.0], [1.0], [10.0]], k=1)
    assert _equal(measured, PrecisionRecall(precision=2 / 3, recall=2 / 3, density=4 / 3, coverage=2 / 3))


def test_identical_sets() -> None:
    x = np.random.default_rng(0).standard_normal((1500, 5)).astype(np.float32)
    measured = precision_recall(x, x)
    assert (measured.precision, measured.recall, measured.coverage) == (1, 1, 1)
    assert measured.density == pytest.approx(
        4 / 3, rel=0.01
    )  # the vector itself and its 3 neighbours' balls, on average


def test_disjoint_sets() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 100, 4))
    assert _equal(precision_recall(x + 100, y), PrecisionRecall(0, 0, 0, 0))


def test_equal_laws_have_density_one() -> None:
    x, y = np.random.default_rng(0).standard_normal((2, 1000, 6))
    assert precision_recall(x, y).density == pytest.approx(1, abs=0.05)


def test_a_dropped_mode_costs_recall_and_coverage_but_no_precision() -> None:
    rng = np.random.default_rng(0)
    modes = 20 * np.repeat(np.eye(4), 100, axis=0)
    reference = modes + rng.standard_normal((400, 4))
    whole = precision_recall(modes + rng.standard_normal((400, 4)), reference)
    dropped = precision_recall(modes[:300] + rng.standard_normal((300, 4)), reference)
    assert dropped.recall == pytest.approx(whole.recall * 3 / 4, abs=0.05)
    assert dropped.coverage == pytest.approx(whole.coverage * 3 / 4, abs=0.05)
    assert dropped.precision == pytest.approx(whole.precision, abs=0.05)


def test_an_outlier_of_the_reference_raises_precision_but_not_density() -> None:
    """Its ball holds every sample, of which none is near another real image: one ball of 100, over k = 3."""
    rng = np.random.default_rng(0)
    reference = np.vstack([rng.standard_normal((99, 2)), [[1000.0, 0.0]]])
    measured = precision_recall(rng.standard_normal((50, 2)) + np.array([500.0, 0.0]), reference)
    assert measured.precision == 1
    assert measured.density == pytest.approx(1 / 3, rel=1e-12)
    assert measured.coverage == pytest.approx(1 / 100, rel=1e-12)


@pytest.mark.parametrize("d", [33, 257, 2048])
def test_copies_of_an_image_are_at_no_distance(d: int) -> None:
    """Images that come 5 times have balls of radius 0, which hold their copies whatever the rounding."""
    images = np.random.default_rng(7 + d).standard_normal((7, d)) + 3
    measured = precision_recall(images[:4].repeat(4, axis=0), images.repeat(5, axis=0))
    assert _equal(measured, PrecisionRecall(1, 4 / 7, 5 / 3, 4 / 7))
    assert (_squared_distances(images, images).diagonal() == 0).all()  # some machines round all copies alike


def test_k_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="1 or more, got 0"):
        precision_recall(np.zeros((5, 2)), np.zeros((5, 2)), k=0)
