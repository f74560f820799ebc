"""The pictures of a page of versions show the numbers that they are given."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.report.pictures.versions import terms_of_versions


def terms(*L_t: float, last: int = 4) -> pd.DataFrame:
    return pd.DataFrame({"t": np.linspace(2, last, len(L_t)), "L_t": L_t, "L_t_se": 0.01})


def sums(figure: Any) -> tuple[str, list[list[float]]]:
    """The lower part: its title and the heights of its lines."""
    below = figure.axes[1]
    return below.get_title(loc="left"), [list(line.get_ydata()) for line in below.lines]


def test_the_sum_of_one_model_ends_at_its_total(tmp_path: Path, figures: list[Any]):
    terms_of_versions({"1 champion": terms(0.5, 0.25, 0.125)}, tmp_path / "picture.png")
    assert sums(figures[0]) == ("sum up to t", [[0.5, 0.75, 0.875]])


def test_the_sums_of_others_are_those_less_the_first_ones(tmp_path: Path, figures: list[Any]):
    curves = {"1 champion": terms(0.5, 0.25, 0.125), "2": terms(0.25, 0.25, 0.25), "3": terms(1, 1, 1, last=10)}
    terms_of_versions(curves, tmp_path / "picture.png")
    title, lines = sums(figures[0])
    assert title == "sum up to t, less that of 1 champion: below zero is better"
    assert lines == [[0, 0, 0], [-0.25, -0.25, -0.125]]  # the third is of other times


def test_models_of_other_times_have_their_own_sums(tmp_path: Path, figures: list[Any]):
    terms_of_versions({"1": terms(0.5, 0.25), "2": terms(0.5, 0.5, 0.5)}, tmp_path / "picture.png")
    assert sums(figures[0]) == ("sum up to t", [pytest.approx([0.5, 0.75]), pytest.approx([0.5, 1.0, 1.5])])
