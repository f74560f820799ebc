"""Bounds of networks that are told the class, and of those that are not, are told apart by their cards."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.cluster.job import Job
from pipelines.cluster.outcome import Finished, cards
from pipelines.comparison.cards import differing_fields
from pipelines.measure.bound import Measuring
from pipelines.measure.evaluating import bound_card
from pipelines.measure.model import find_model
from pipelines.runs.local import LocalStore
from pipelines.sections import EvaluateParams
from tests.pipelines.stage_inputs import changed, prepared_digits, saved_model


def card(folder: Path, data: Path, classes: int | None) -> dict[str, Any]:
    """Of the bound of a model of digits that is told this many classes."""
    model = find_model(saved_model(folder, classes=classes), "ema")
    return asdict(bound_card(Measuring(model, EvaluateParams(images=9), 0), data))


def test_bounds_with_and_without_labels_are_not_compared(tmp_path: Path) -> None:
    data = prepared_digits(tmp_path / "prepared")
    told, untold = card(tmp_path / "told", data, 10), card(tmp_path / "untold", data, None)
    assert (told["images"], untold["images"]) == (9, 9)
    assert (told["labels"], untold["labels"]) == (True, False)
    assert differing_fields(told, untold) == ["labels"]


def test_the_bounds_of_training_say_whether_the_network_is_told_the_class(tmp_path: Path) -> None:
    prepared = prepared_digits(tmp_path / "prepared")
    for told in (False, True):
        job = Job(changed("model", class_conditional=told), prepared, LocalStore(tmp_path), "0" * 16, 5, 2)
        found = cards(Finished(job, None))  # type: ignore[arg-type]  # the cards are of the parameters alone
        assert {name: of["labels"] for name, of in found.items()} == {"bound": told, "bound_running": told}
