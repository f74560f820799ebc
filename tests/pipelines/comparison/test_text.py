"""What is printed of a comparison: all of it on any width, escaped, for programs too."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from rich.console import Console

from pipelines import compare
from pipelines.comparison.grids import Grid, Piece, grids, number
from pipelines.comparison.side_by_side import Column, blocks
from pipelines.comparison.text import frame, markdown, print_grids
from tests.pipelines.comparison.made_up import column, measurement


def printed(made: list[Grid], width: int) -> str:
    file = io.StringIO()
    print_grids(made, Console(file=file, width=width))
    return file.getvalue()


def columns_of(folder: Path, count: int) -> list[Column]:
    """The second one is champion."""
    return [
        column(k, measurement(folder / str(k), 2 + 0.01 * k, noise=k), aliases=("champion",) if k == 2 else ())
        for k in range(1, count + 1)
    ]


@pytest.mark.parametrize("width", [80, 160])
def test_no_word_is_cut_however_many_versions_there_are(width: int, tmp_path: Path) -> None:
    columns = columns_of(tmp_path, 9)
    (bound, *_) = grids(columns, blocks(columns, "2 champion"))
    text = printed([bound], width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    words = {word for _, cells in bound.rows for cell in cells for piece in cell for word in piece.text.split()}
    assert {word.rstrip(",") for word in words} <= {word.rstrip(",") for word in text.split()}
    heads = [line.split() for line in text.splitlines() if "champion" in line and "against" not in line]
    assert len(heads) > 1
    assert all(head[:2] == ["2", "champion"] for head in heads)  # beside what is judged against it
    assert [number for head in heads for number in head[2:]] == [str(k) for k in range(1, 10) if k != 2]
    assert text.count("bits/dim ") == len(heads)


def test_a_table_with_room_is_printed_whole_in_the_order_asked_for(tmp_path: Path) -> None:
    columns = columns_of(tmp_path, 3)
    (bound, *_) = grids(columns, blocks(columns, "2 champion"))
    assert "1 2 champion 3" in " ".join(printed([bound], 160).split())
    assert "not distinguishable, P = 50.0%" in printed([bound], 160)


def test_a_cell_as_wide_as_the_console_stands_alone() -> None:
    path = "/a" * 30
    rows = (("data.path", tuple((Piece(f"{path}{k}"),) for k in range(3))),)
    text = printed([Grid("parameters", ("1", "2", "3"), rows, base="1")], 80)
    assert [f"{path}{k}" in text for k in range(3)] == [True] * 3


def test_intervals_and_the_card_are_told(tmp_path: Path) -> None:
    """2 +- 1.96 0.05; the distance's interval is the bootstrap's, which is not symmetric."""
    reference = {"reference": {"extractor": "classifier", "images": 1437}, "samples": {"count": 400, "seed": 3}}
    columns = [
        column(1, measurement(tmp_path / "1", 2.0, distance=3.4, distance_card=reference)),
        column(2, measurement(tmp_path / "2", 2.0, distance_card=reference | {"samples": {"count": 400, "seed": 4}})),
    ]
    bound, distance, *_ = grids(columns, blocks(columns, "1"))
    text = printed([bound, distance], 160)
    assert "2.000 (1.902 to 2.098)" in text
    assert "3.40 (3.00 to 4.00)" in text
    assert "0.750 (0.708 to 0.792)" in text
    assert "measured on the test split, 40 images, seed 0" in text
    assert "measured on 400 samples, seed 3 or 4, 1,437 reference images, extractor classifier" in text
    assert "no verdict on recall: the standard error is not known" in text
    certain = measurement()
    certain.content["fd_classifier"]["precision"] = 0.999
    found = blocks([column(1, certain)], "1")
    (precision,) = (cells["1"] for block in found for metric, cells in block.rows if metric.key == "precision")
    assert precision.interval is not None
    assert precision.interval[1] == 1


def test_markdown_is_escaped(tmp_path: Path) -> None:
    columns = [
        column(1, measurement(tmp_path / "1", 2.0, noise=1)),
        column(2, measurement(tmp_path / "2", 1.9, noise=2), a__b="x|y", model__c_d="1"),
    ]
    columns[1] = replace(columns[1], title="a_b/2")
    text = markdown(grids(columns, blocks(columns, "1")), ["note"])
    assert "| bits/dim | 2.000 (1.902 to 2.098) | 1.900 (1.802 to 1.998)<br>**better, P \\> 99.9%** |" in text
    assert "| a.b | - | x\\|y |" in text
    assert "| model.c\\_d | - | 1 |" in text
    assert "|  | 1 | a\\_b/2 |" in text


def test_rows_for_programs(tmp_path: Path) -> None:
    columns = [column(k, measurement(tmp_path / str(k), 2.1 - 0.1 * k, noise=k)) for k in (1, 2)]
    columns[1].entries[0].measurements[0].content["bits_per_dim"]["card"]["seed"] = 7
    found = blocks(columns, "1")
    row = frame(found).set_index(["metric", "column"]).loc["bits_per_dim.total", "2"]
    assert (row["verdict"], row["pairs"], row["base"]) == ("better", 40, "1")
    assert row["difference"] == pytest.approx(-0.1, rel=1e-9)
    assert [row["low"], row["high"]] == pytest.approx([1.9 - 1.95996 * 0.05, 1.9 + 1.95996 * 0.05], abs=1e-6)
    again = pd.read_csv(io.StringIO(frame(found).to_csv(index=False)))
    assert len(again) == len(frame(found))
    backwards = frame(blocks(columns[::-1], "1"))
    assert set(backwards["card"]) == set(frame(found)["card"])  # whatever the seeds and models


def test_what_a_csv_has_no_place_for_goes_to_the_error_stream(capsys: pytest.CaptureFixture[str]) -> None:
    columns = [column(1, measurement()), column(2, measurement(bound_card={"first_time": 8}))]
    asked = SimpleNamespace(by="version", out=None)
    compare.write(columns, blocks(columns, "1"), "csv", asked)
    said = capsys.readouterr()
    assert said.out.startswith("metric,column,value")
    assert "another first_time 8" not in said.out
    assert "another first_time 8" in said.err
    assert "python -m pipelines.remeasure models:/m/1 models:/m/2" in said.err


def test_numbers_are_printed_to_two_digits_of_their_error() -> None:
    assert [number(1.23456, error) for error in (0.0123, 0.00099, 12.0, 0.0)] == [
        "1.235 ± 0.012",
        "1.23456 ± 0.00099",
        "1 ± 12",
        "1.235",
    ]
