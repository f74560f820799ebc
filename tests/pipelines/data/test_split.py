"""The split is a function of content: stable, in the asked proportions, and never empty without a word."""

import numpy as np
import pytest

from pipelines.data.split import Fractions, content_id, divide, split_of
from pipelines.errors import DataError

FRACTIONS = Fractions(val=0.1, test=0.2)


def ids(count: int) -> list[str]:
    return [content_id(np.array([[[k % 256, k // 256]]], np.uint8)) for k in range(count)]


def test_an_image_never_changes_sides_when_others_are_added():
    few, many = divide(ids(300), FRACTIONS), divide(ids(3000), FRACTIONS)
    for name, members in few.items():
        assert set(members) <= set(many[name])


def test_shares_are_about_as_asked():
    splits = divide(ids(10_000), FRACTIONS)
    assert len(splits["test"]) == pytest.approx(2000, abs=4 * (10_000 * 0.2 * 0.8) ** 0.5)
    assert len(splits["val"]) == pytest.approx(1000, abs=4 * (10_000 * 0.1 * 0.9) ** 0.5)
    assert sum(map(len, splits.values())) == 10_000


def test_the_ends_of_the_range():
    low, high = "0" * 64, "f" * 64
    assert split_of(low, FRACTIONS) == "test"
    assert split_of(high, FRACTIONS) == "val"
    assert split_of(high, Fractions(val=0.0, test=0.2)) == "train"


def test_shape_is_part_of_the_content():
    pixels = np.arange(6, dtype=np.uint8)
    assert content_id(pixels.reshape(1, 2, 3)) != content_id(pixels.reshape(1, 3, 2))


def test_an_empty_split_is_an_error():
    with pytest.raises(DataError, match="no images for"):
        divide(["8" * 64], FRACTIONS)
