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
    for part in ("32 samples", "24 real images", "3.50 (3.30 to 3.70)", "1.00 (3.30 to 3.70)"):
        assert part in text
    for part in ("1.50 ± 0.20", "0.400 ± 0.010", "0.750, 0.500"):
        assert part in text
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


def test_numbers_have_the_digits_that_their_errors_leave_them() -> None:
    found = rows("fid", [{"kid": 0.00123456, "kid_se": 0.000456, "infinity": 123.456, "infinity_se": 21.0}])
    assert (found["  KID"], found["  infinitely many"]) == (["0.00123 ± 0.00046"], ["123 ± 21"])


def test_a_number_without_an_error_is_shown_all_the_same() -> None:
    [text] = rows("fid", [{"value": 1.0, "value_se": 0.0, "low": 1.0, "high": 1.0}])["fid"]
    assert text == "1 (1 to 1)"
