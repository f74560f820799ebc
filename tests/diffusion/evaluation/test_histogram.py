"""The code length of pixels coded one by one."""

from math import log2

import numpy as np
import pytest

from diffusion.evaluation import PixelHistograms


def _images(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype=np.uint8)[:, None, None, :]


def test_without_data_every_level_costs_log2_of_their_number() -> None:
    histograms = PixelHistograms.of([], pixels=2, levels=17)
    np.testing.assert_allclose(histograms.bits_per_dim(_images([0, 16])), [log2(17)], rtol=1e-15)


def test_laplace_rule_by_hand() -> None:
    """Pixel 0 was 0, 0, 1 and pixel 1 was 2, 2, 2, of three levels: probabilities 3/6 and 4/6 for the image (0, 2)."""
    histograms = PixelHistograms.of([_images([0, 2], [0, 2]), _images([1, 2])], pixels=2, levels=3)
    bits = histograms.bits_per_dim(_images([0, 2], [2, 0]))
    np.testing.assert_allclose(bits, [-(log2(3 / 6) + log2(4 / 6)) / 2, -(log2(1 / 6) + log2(1 / 6)) / 2], rtol=1e-14)


def test_probabilities_of_all_images_sum_to_one() -> None:
    histograms = PixelHistograms.of([_images([0, 1], [2, 1], [2, 2])], pixels=2, levels=3)
    every = _images(*[[a, b] for a in range(3) for b in range(3)])
    assert (2.0 ** (-2 * histograms.bits_per_dim(every))).sum() == pytest.approx(1, rel=1e-14)


def test_levels_beyond_the_last_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.\.2, got 3"):
        PixelHistograms.of([_images([0, 3])], pixels=2, levels=3)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="2 values each, got 3"):
        PixelHistograms.of([_images([0, 1, 2])], pixels=2, levels=3)
