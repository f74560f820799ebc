"""The classifier stage: trained and measured, or none in a moment; the same bits each time."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from diffusion.models import Classifier
from diffusion.models.saved_classifier import load_classifier
from pipelines import classifier as stage
from pipelines.data.dataset import ImageSplit, open_split
from pipelines.errors import DataError, ParamsError
from pipelines.measure import noised_classifier
from pipelines.measure.noised_classifier import Task, accuracies, trained
from pipelines.params import Params
from pipelines.project import workspace
from pipelines.settings import Settings
from tests.pipelines.stage_inputs import DIGITS, prepared_digits


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_digits(tmp_path_factory.mktemp("data") / "prepared")


def params(**values: Any) -> Params:
    content = DIGITS.model_dump(by_alias=True)
    content["process"] |= {"T": 50}
    content["sample"] |= {"steps": 10}
    content["train"] |= {"val_calls": 5}
    content["classifier"] |= {
        "channels": 8,
        "channel_multipliers": (1, 2),
        "batch_size": 64,
        "learning_rate": 0.02,
    } | values
    return Params.model_validate(content)


def make(folder: Path, prepared: Path, **values: Any) -> tuple[dict[str, Any], list[Any]]:
    folder.mkdir()
    return stage.make(params(**values), Settings(), prepared, folder)


def test_it_is_trained_measured_and_the_same_each_time(prepared: Path, tmp_path: Path) -> None:
    """Also with dropout, whatever the global generator was at, which is left alone."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    card, found = make(tmp_path / "one", prepared, steps=120, dropout=0.1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert make(tmp_path / "two", prepared, steps=120, dropout=0.1)[0] == card
    saved = load_classifier(tmp_path / "one")
    assert (saved.digest, saved.classes, saved.schedule.T) == (card["digest"], 10, 50)
    assert json.loads((tmp_path / "one" / "card.json").read_text()) == card
    frame = pd.read_csv(tmp_path / "one" / "accuracy.csv")
    assert (frame["t"].iloc[0], frame["t"].iloc[-1], len(frame)) == (1, 50, len(found))
    assert frame["accuracy"].iloc[0] > 0.25  # a tenth by chance
    assert frame["accuracy"].iloc[-1] < 0.2
    assert frame["bits"].iloc[0] < np.log2(10) - 0.2 < frame["bits"].iloc[-1]
    assert (frame["accuracy_low"] < frame["accuracy"]).all()
    assert (tmp_path / "one" / "accuracy.png").stat().st_size > 0
    assert stage.table(found).row_count == 6


def test_another_seed_is_another_classifier(prepared: Path) -> None:
    split = open_split(prepared, "train")
    task = Task(params(steps=1).classifier, load_schedule(), 0, "cpu")
    one, other = (trained(replace(task, seed=seed), split).state_dict() for seed in (0, 1))
    assert not torch.equal(one["head.weight"], other["head.weight"])


def load_schedule() -> Any:
    from pipelines.build import build_schedule

    return build_schedule(params().process)


class Knowing(Classifier):
    """Gives the class with the label of its time: `right` of the images at every time."""

    def __init__(self, y: torch.Tensor, right: int) -> None:
        super().__init__(10, 8, 1, 8, (1,))
        self.y, self.right, self.seen = y, right, 0

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        rows = torch.arange(self.seen, self.seen + len(x_t))
        self.seen = (self.seen + len(x_t)) % len(self.y)
        said = torch.where(rows < self.right, self.y[rows], (self.y[rows] + 1) % 10)
        return torch.nn.functional.one_hot(said, 10) * 2.0


def test_the_accuracy_is_the_share_that_is_right(prepared: Path) -> None:
    """A score of 2 for one class of 10: the right ones cost log2((e^2 + 9) / e^2) bits, the others log2(e^2 + 9)."""
    split = open_split(prepared, "val")
    assert split.labels is not None
    n, right = len(split), 100
    net = Knowing(torch.from_numpy(split.labels.copy()), right)
    found = accuracies(net, Task(params(steps=1).classifier, load_schedule(), 0, "cpu"), split)
    others = np.log2(np.e**2 + 9)
    expected = (right * (others - np.log2(np.e**2)) + (n - right) * others) / n
    for each in found:
        assert each.accuracy == pytest.approx(right / n)
        assert each.bits == pytest.approx(expected, rel=1e-6)
        assert each.accuracy_low < each.accuracy < each.accuracy_high
        assert each.accuracy_high - each.accuracy_low == pytest.approx(
            2 * 1.96 * (100 * (n - 100) / n**3) ** 0.5, rel=0.05
        )
    assert accuracies(net, Task(params(steps=1).classifier, load_schedule(), 0, "cpu"), empty(split)) == []


def test_the_accuracy_is_that_of_the_first_images_read_in_chunks(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, read, most = open_split(prepared, "val"), ImageSplit.read, 150
    assert split.labels is not None
    sizes: list[int] = []

    def counting(self: ImageSplit, indices: Any) -> Any:
        sizes.append(len(indices))
        return read(self, indices)

    monkeypatch.setattr(ImageSplit, "read", counting)
    monkeypatch.setattr(noised_classifier, "_MOST", most)
    net = Knowing(torch.from_numpy(split.labels[:most].copy()), 30)
    found = accuracies(net, Task(params(steps=1).classifier, load_schedule(), 0, "cpu"), split)
    assert {(each.images, each.accuracy) for each in found} == {(most, 30 / most)}
    assert sizes == [128, most - 128] * len(found)
    assert stage.table(found).title == "the classifier on the first 150 validation images"


def empty(split: ImageSplit) -> ImageSplit:
    assert split.labels is not None
    return replace(split, ids=[], labels=split.labels[:0])


def test_images_without_labels_are_refused(prepared: Path) -> None:
    split = replace(open_split(prepared, "train"), labels=None)
    with pytest.raises(DataError, match=r"classifier\.steps is 5, but the training split has 0 different labels"):
        Task(params(steps=5).classifier, load_schedule(), 0, "cpu").check(split)


def test_a_network_that_does_not_fit_is_refused(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"params\.yaml: classifier: image_size 8 cannot be halved 4 times"):
        make(tmp_path / "x", prepared, steps=5, channel_multipliers=(1, 1, 1, 1, 1))


def test_none_is_made_in_a_moment_by_default() -> None:
    """Neither torch nor MLflow is loaded for it; its run is left for a later stage to send."""
    code = """
import os, sys, tempfile, pathlib
from pipelines import classifier
folder = pathlib.Path(tempfile.mkdtemp())
os.environ["DVC_ROOT"] = str(folder)
classifier.results = lambda stage: folder / stage
classifier.main()
assert {p.name for p in (folder / "classifier").iterdir()} == {"card.json"}
assert [p.name[:11] for p in (folder / ".state/spool").glob("*.jsonl")] == ["classifier-"]
print(*({"torch", "mlflow", "ray", "pandas"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=workspace(), capture_output=True, text=True, check=True)
    assert done.stdout == "no classifier: classifier.steps is 0\n\n"
