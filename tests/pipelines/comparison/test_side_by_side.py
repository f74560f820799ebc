"""Versions in columns: cards apart, the base, recipes, and the choice of versions."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines import compare
from pipelines.comparison import recipes
from pipelines.comparison.choice import meeting
from pipelines.comparison.grids import explanation, grids
from pipelines.comparison.side_by_side import Column, blocks
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
    assert compare.base_of(columns, "3") == compare.base_of(columns, "models:/m/3") == "3"
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
    assert last.endswith("python -m pipelines.remeasure models:/m/1 models:/m/2 models:/m/3")
    assert "3" not in cells_of(found, "bits_per_dim.total")


def test_no_command_is_offered_where_no_measurement_helps() -> None:
    """The second process has more times, whatever is measured; the third was measured in another way only."""
    columns = [
        column(1, measurement(bound_card={"times": 1000})),
        column(2, measurement(bound_card={"times": 4000})),
    ]
    (only,) = compare.remedies(columns, blocks(columns, "1"))
    assert only == (
        "2 cannot be compared with 1 by bits_per_dim: another times 4000; no measurement brings these together: times "
        "follows from the model."
    )
    columns.append(column(3, measurement(bound_card={"times": 993, "first_time": 8})))
    assert compare.remedies(columns, blocks(columns, "1"))[-1].endswith("remeasure models:/m/1 models:/m/3")


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
    found = blocks([both, column(2, measurement())], "1")
    assert [b.titles for b in found if b.quantity == "bits_per_dim"] == [["1", "2"]]
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
    assert recipes.replaced(columns) == []
    assert recipes.replaced(again) == ["A (9, 2, 3) leaves out 1: a later version has the same recipe and seed."]
    assert recipes.replaced(again)[0] in compare.remedies(again, blocks(again, "A (9, 2, 3)", by_recipe=True))
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


def test_the_interval_of_a_recipe_knows_how_few_seeds_there_are() -> None:
    """Two numbers 0.02 apart: a standard error of 0.01 with one degree of freedom, whose t at 97.5% is 12.706."""
    columns = recipes.by_recipe([entry(k, measurement(total=1.99 + 0.02 * k), seed=str(k)) for k in (0, 1)])
    (cell,) = cells_of(blocks(columns, columns[0].title, by_recipe=True), "bits_per_dim.total").values()
    assert cell.interval == pytest.approx((2.0 - 0.12706, 2.0 + 0.12706), abs=1e-5)
    seeds = [entry(k, measurement(), seed=str(k)) for k in range(3)]
    for k, each in enumerate(seeds):
        each.measurements[0].content["bits_per_dim"]["L_T"] = 0.1 + 1e-16 * k
    columns = recipes.by_recipe(seeds)
    (bound, *_) = grids(columns, blocks(columns, columns[0].title, by_recipe=True))
    assert [piece.text for label, ((piece,),) in bound.rows if label == "  L_T"] == ["0.1"]  # not twenty digits of it


def test_models_from_elsewhere_are_recipes_of_their_own() -> None:
    """Nobody knows how they were trained, so two of them are no two draws of one recipe."""
    adopted = [entry(k, measurement(total=total)) for k, total in ((1, 2.0), (2, 1.5))]
    for each in adopted:
        each.version.tags["params"] = json.dumps({"seed": "0", "evaluate.first_time": "1"})
    assert [c.title for c in recipes.by_recipe(adopted)] == ["A (1)", "B (2)"]
    again = replace(adopted[0], version=replace(adopted[0].version, number=3))
    assert [c.title for c in recipes.by_recipe([*adopted, again])] == ["A (3)", "B (2)"]


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
