"""Versions in columns: cards apart, the base, recipes, the choice of versions, and what is printed of it."""

import io
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from pipelines import compare
from pipelines.comparison import recipes
from pipelines.comparison.choice import meeting
from pipelines.comparison.grids import explanation, grids, number
from pipelines.comparison.side_by_side import Column, blocks
from pipelines.comparison.text import frame, markdown, print_grids
from pipelines.comparison.verdict import Says
from pipelines.errors import ParamsError
from tests.pipelines.comparison.made_up import column, entry, measurement

OTHER = {"first_time": 8}


def cells_of(found, name):
    return next(cells for block in found for metric, cells in block.rows if metric.name == name)


def test_versions_are_judged_against_the_base(tmp_path: Path) -> None:
    columns = [
        column(1, measurement(tmp_path / "1", 2.0, noise=1), aliases=("champion",)),
        column(2, measurement(tmp_path / "2", 1.9, noise=2)),
        column(3, measurement(tmp_path / "3", 2.1, noise=3)),
    ]
    assert compare.base_of(columns, None) == "1 champion"
    found = blocks(columns, "1 champion")
    assert [block.quantity for block in found] == ["bits_per_dim", "fd_classifier"]
    total = cells_of(found, "bits_per_dim.total")
    assert total["1 champion"].verdict is None
    assert [total[title].verdict.says for title in ("2", "3")] == [Says.BETTER, Says.WORSE]
    assert cells_of(found, "fd_classifier.value")["2"].verdict.says is Says.SAME
    assert compare.status_of(columns, found) == compare.WORSE
    assert compare.status_of(columns[:2], blocks(columns[:2], "1 champion")) == 0
    assert compare.remedies(columns, found) == []
    assert compare.base_of(columns, "3") == "3"
    with pytest.raises(ParamsError, match="--against 9 is not compared here; there are 1 champion, 2, 3"):
        compare.base_of(columns, "9")


def test_other_cards_stand_apart_with_the_field_and_the_command() -> None:
    columns = [column(1, measurement()), column(2, measurement()), column(3, measurement(bound_card=OTHER))]
    found = blocks(columns, "1")
    assert [(b.quantity, b.titles, b.other) for b in found] == [
        ("bits_per_dim", ["1", "2"], ()),
        ("bits_per_dim", ["3"], ("first_time",)),
        ("fd_classifier", ["1", "2", "3"], ()),
    ]
    assert compare.status_of(columns, found) == compare.INCOMPARABLE
    first, last = compare.remedies(columns, found)
    assert first == ("3 cannot be compared with 1 and 2 by bits_per_dim: another first_time 8.")
    assert last.endswith("python -m pipelines.remeasure 1 2 3")
    assert "3" not in cells_of(found, "bits_per_dim.total")


def test_what_was_not_measured_is_not_passed_over() -> None:
    fid = measurement()
    fid.content["fid"] = fid.content.pop("fd_classifier")
    columns = [column(1, measurement()), column(2, fid), column(3)]
    found = blocks(columns, "1")
    assert compare.missing(columns, found) == {"bits_per_dim": ["3"], "fd_classifier": ["2", "3"], "fid": ["1", "3"]}
    assert compare.status_of(columns, found) == compare.INCOMPARABLE
    assert "2 and 3 cannot be compared by fd_classifier: not measured." in compare.remedies(columns, found)
    other = Column("n/9", (replace(entry(9), version=replace(entry(9).version, name="n")),))
    assert compare.remedies([columns[0], other], blocks([columns[0], other], "1"))[-1].endswith(
        "python -m pipelines.remeasure models:/m/1 models:/n/9"
    )
    lone = [column(1), column(2)]
    assert compare.status_of(lone, blocks(lone, "1")) == compare.INCOMPARABLE


def test_tables_that_are_away_weaken_a_verdict_and_that_is_said(tmp_path: Path) -> None:
    columns = [column(1, measurement(tmp_path / "1", 2.0)), column(2, measurement(total=1.9))]
    found = blocks(columns, "1")
    assert found[0].weaker == ("gone",)
    assert cells_of(found, "bits_per_dim.total")["2"].verdict.pairs is None
    assert "which sees less: gone" in grids(columns, found)[0].note


def test_measured_in_two_ways_it_stands_where_it_can_be_compared() -> None:
    both = column(1, measurement(when=2, bound_card=OTHER), measurement(when=1))
    assert [b.titles for b in blocks([both, column(2, measurement())], "1")][:1] == [["1", "2"]]
    found = blocks([both, column(2, measurement()), column(3, measurement(bound_card=OTHER))], "1")
    assert [(b.titles, b.other) for b in found if b.quantity == "bits_per_dim"] == [
        (["1", "3"], ()),
        (["1", "2"], ("first_time",)),
    ]
    assert compare.remedies([both, column(2), column(3)], found)[0].startswith("2 cannot be compared with 3 by")


def test_recipes_are_versions_that_differ_in_the_seed_alone() -> None:
    totals = {"0": 2.00, "1": 2.02, "2": 1.98}
    slow = [entry(k, measurement(total=value), seed=seed) for k, (seed, value) in enumerate(totals.items(), 1)]
    fast = [
        entry(k + 3, measurement(total=value - 0.1), seed=seed, model__channels="64", register__name="n")
        for k, (seed, value) in enumerate(totals.items(), 1)
    ]
    lone = [entry(7, measurement(), train__steps="9")]
    columns = recipes.by_recipe([*slow, *fast, *lone])
    assert [c.title for c in columns] == ["A (1, 2, 3)", "B (4, 5, 6)", "C (7)"]
    found = blocks(columns, "A (1, 2, 3)", by_recipe=True)
    total = cells_of(found, "bits_per_dim.total")
    assert total["A (1, 2, 3)"].value == pytest.approx(2.0, rel=1e-12)
    assert total["A (1, 2, 3)"].error == pytest.approx(0.02 / 3**0.5, rel=1e-9)
    assert total["B (4, 5, 6)"].verdict.says is Says.BETTER
    assert total["C (7)"].verdict is None
    assert total["C (7)"].error is None
    assert compare.base_of(columns, "5") == "B (4, 5, 6)"
    assert recipes.differing_params(columns) == {
        "model.channels": ["-", "64", "-"],
        "register.name": ["m", "n", "m"],
        "seed": ["0, 1, 2", "0, 1, 2", "0"],
        "train.steps": ["1000", "1000", "9"],
    }
    again = recipes.by_recipe([*slow, entry(9, measurement(total=2.5), seed="0")])
    assert [c.title for c in again] == ["A (9, 2, 3)"]  # the same seed twice is one draw
    assert recipes.mixed(again) == []
    equal = [entry(k, measurement(total=1.5), seed=str(k), model__channels="8") for k in (10, 11)]
    alike = [entry(k, measurement(total=1.6), seed=str(k)) for k in (12, 13)]
    columns = recipes.by_recipe([*equal, *alike])
    assert (
        cells_of(blocks(columns, columns[0].title, by_recipe=True), "bits_per_dim.total")[columns[1].title].verdict
        is None
    )
    assert "the noise is the spread between them" in explanation(columns, by_recipe=True)
    assert "of these weights, not of the recipes" in explanation(columns, by_recipe=False)


def test_conditions() -> None:
    entries = [
        entry(1, measurement(total=2.0), train__steps="500"),
        entry(2, measurement(total=1.5), model__kind="unet"),
    ]
    chosen = lambda *conditions: [e.version.number for e in meeting(entries, conditions)]  # noqa: E731
    assert chosen("train.steps>=1000") == [2]
    assert chosen("train.steps<1000", "bits_per_dim > 1.9") == [1]
    assert chosen("fd_classifier=3.5") == [1, 2]
    assert chosen("fd_classifier.kid != 1") == []
    assert chosen("model.kind==unet") == [2]
    assert chosen("version<=1") == [1]
    with pytest.raises(ParamsError, match=r"no version has train\.step; there are bits_per_dim"):
        chosen("train.step>3")
    with pytest.raises(ParamsError, match="a condition is written NAME<VALUE"):
        chosen("better")


def test_the_tables_in_three_forms(tmp_path: Path) -> None:
    columns = [
        column(1, measurement(tmp_path / "1", 2.0, noise=1)),
        column(2, measurement(tmp_path / "2", 1.9, noise=2), a__b="x|y"),
    ]
    found = blocks(columns, "1")
    made = grids(columns, found)
    file = io.StringIO()
    print_grids(made, Console(file=file, width=120))
    printed = file.getvalue()
    assert "2.000 ± 0.050" in printed
    assert "better, P > 99.9%" in printed
    assert "compared image by image on 40 images" in printed
    text = markdown(made, ["note"])
    assert "| bits/dim | 2.000 ± 0.050 | 1.900 ± 0.050<br>**better, P \\> 99.9%** |" in text
    assert "| a.b | - | x\\|y |" in text
    table = frame(found).set_index(["metric", "column"])
    row = table.loc["bits_per_dim.total", "2"]
    assert (row["value"], row["verdict"], row["pairs"], row["base"]) == (1.9, "better", 40, "1")
    assert row["difference"] == pytest.approx(-0.1, rel=1e-9)
    again = pd.read_csv(io.StringIO(frame(found).to_csv(index=False)))
    assert len(again) == len(frame(found))


def test_numbers_are_printed_to_two_digits_of_their_error() -> None:
    assert [number(1.23456, error) for error in (0.0123, 0.00099, 12.0, 0.0)] == [
        "1.235 ± 0.012",
        "1.23456 ± 0.00099",
        "1 ± 12",
        "1.235",
    ]
