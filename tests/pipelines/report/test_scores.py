"""Distances in tables: with an interval, beside the floor, and as versions of old wrote them."""

import io

from rich.console import Console

from pipelines.report.scores import distances, rows, samples_table
from tests.pipelines.conftest import evaluation


def printed(thing) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(thing)
    return console.file.getvalue()


def test_the_samples_stand_beside_the_floor() -> None:
    found = distances(evaluation("m" * 64, 2.0))
    assert found.keys() == {"fd_classifier"}
    text = printed(samples_table("fd_classifier", found["fd_classifier"]))
    for part in ("32 samples", "24 real images", "3.5 (3.3 to 3.7)", "1 (3.3 to 3.7)", "1.5 ± 0.2", "0.4 ± 0.01"):
        assert part in text
    assert "0.750, 0.500" in text
    assert "intervals of 95%" in text


def test_without_a_floor_there_is_one_column() -> None:
    distance = distances(evaluation("m" * 64, 2.0))["fd_classifier"]
    del distance["held_out"]
    assert "real images" not in printed(samples_table("fd_classifier", distance))


def test_numbers_that_are_not_there_are_left_out() -> None:
    """A version that was registered with the distance alone, and one without."""
    assert rows("fid", [{"value": 2.0, "floor": 1.0}, {}]) == {
        "fid": ["2", ""],
        "  infinitely many": ["", ""],
        "  KID": ["", ""],
        "  precision, recall": ["", ""],
    }
