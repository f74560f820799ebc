"""Asking the sample stage for a class: what is drawn, what the card says, and what is refused before any work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from diffusion.models import Classifier
from diffusion.models.saved_classifier import save_classifier
from diffusion.process import NoiseSchedule
from pipelines.errors import CheckpointError, ParamsError
from pipelines.measure.committed import job_key
from pipelines.measure.drawing import Drawing, drawing_of
from pipelines.measure.sampling import draw_samples, read_samples
from pipelines.params import Params
from pipelines.sections_of_sampling import SampleParams
from pipelines.settings import Settings
from tests.pipelines.stage_inputs import DIGITS, saved_model

NAMES = [f"the {k}" for k in range(10)]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    """As every worker has it."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Untrained models with labels, with a null label besides, and without; and a classifier."""
    base = tmp_path_factory.mktemp("models")
    saved_model(base / "free", classes=10, null_label=True, scale=0.5)
    saved_model(base / "told", classes=10, scale=0.5)
    saved_model(base / "untold", scale=0.5)
    save_classifier(base / "classifier", classifier(), NoiseSchedule.log_snr_linear(20), 17, {})
    return {path.name: path for path in base.iterdir()}


def classifier() -> Classifier:
    torch.manual_seed(0)
    net = Classifier(10, 8, 1, 8, (1,), blocks=1)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.4)
    return net


def params(**sample: Any) -> Params:
    """Not checked as a whole: the model is not the one that these parameters would train."""
    how = SampleParams.model_validate({"count": 12, "steps": 4, "batch_size": 8, **sample})
    return DIGITS.model_copy(update={"sample": how})


def drawing(folders: dict[str, Path], model: str, **sample: Any) -> Drawing:
    return drawing_of(params(**sample), Settings(), folders[model], folders["classifier"], NAMES)


@pytest.mark.parametrize(
    ("model", "guidance"),
    [("free", "classifier_free"), ("free", "classifier"), ("told", "classifier"), ("untold", "classifier")],
)
def test_a_class_is_drawn_and_the_card_says_how(
    folders: dict[str, Path], model: str, guidance: str, tmp_path: Path
) -> None:
    sample = {"guidance": guidance, "guidance_scale": 90.0, "guidance_interval": [3, 18]}
    asked = drawing(folders, model, label=3, **sample)
    draw_samples(tmp_path, asked)
    samples = read_samples(tmp_path)
    card = samples.card
    assert (card.label, card.classes, card.guidance, card.guidance_scale) == (3, 10, guidance, 90.0)
    assert card.guidance_interval == (3, 18)
    assert (card.classifier_digest is None) == (guidance == "classifier_free")
    (tmp_path / "turns").mkdir()
    turns = drawing(folders, model, **sample)
    draw_samples(tmp_path / "turns", turns)
    same = [bool((a == b).all()) for a, b in zip(samples.images, read_samples(tmp_path / "turns").images, strict=True)]
    assert same[3]
    assert sum(same) < 6
    assert job_key(asked) != job_key(turns)


def test_without_guidance_the_card_names_none(folders: dict[str, Path], tmp_path: Path) -> None:
    draw_samples(tmp_path, drawing(folders, "told"))
    card = read_samples(tmp_path).card
    assert (card.label, card.guidance, card.guidance_scale, card.classifier_digest) == (None, "none", None, None)


def test_a_batch_that_is_split_for_memory_keeps_its_labels(folders: dict[str, Path]) -> None:
    from pipelines.measure.drawing import draw_fitting

    asked = drawing(folders, "free", guidance="classifier_free", label=2)
    whole = draw_fitting(asked, range(4, 8)).result.images.astype(int)
    parts = [draw_fitting(asked, ids).result.images for ids in (range(4, 5), range(5, 8))]
    assert np.abs(whole - np.concatenate(parts)).max() <= 1


@pytest.mark.parametrize(
    ("model", "sample", "message"),
    [
        ("told", {"label": 12}, r"sample\.label is 12, but the classes are 0 \(the 0\), 1 \(the 1\), .* 9 \(the 9\):"),
        ("told", {"guidance": "classifier_free"}, r"section sample of params\.yaml: .*train\.label_dropout"),
        ("untold", {"guidance": "classifier_free"}, "guidance without labels"),
        ("untold", {"label": 1}, "class 1 was asked for, but the model was trained without classes"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    folders: dict[str, Path], model: str, sample: dict[str, Any], message: str
) -> None:
    with pytest.raises(ParamsError, match=message):
        drawing(folders, model, **sample)


def test_a_classifier_that_is_missing_or_of_another_process(folders: dict[str, Path], tmp_path: Path) -> None:
    asked = params(guidance="classifier")
    with pytest.raises(CheckpointError, match=r"classifier\.json is missing"):
        drawing_of(asked, Settings(), folders["told"], tmp_path, NAMES)
    save_classifier(tmp_path, classifier(), NoiseSchedule.log_snr_linear(20, log_snr_max=5.0), 17, {})
    with pytest.raises(ParamsError, match="another noise schedule than the model"):
        drawing_of(asked, Settings(), folders["told"], tmp_path, NAMES)


def test_a_classifier_that_is_replaced_meanwhile_is_noticed(folders: dict[str, Path]) -> None:
    asked = drawing(folders, "told", guidance="classifier")
    assert asked.classifier is not None
    with pytest.raises(CheckpointError, match="was replaced while it was in use"):
        replace(asked.classifier, digest="0" * 64).open()


LABELS = {"model": {"class_conditional": True}, "train": {"label_dropout": 0.1}, "classifier": {"steps": 9}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample": {"guidance": "classifier_free"}}, "sample.guidance is classifier_free: the network must be told"),
        (
            {"model": {"class_conditional": True}, "sample": {"guidance": "classifier_free"}},
            r"train\.label_dropout to 0\.1 or so \(it is 0\.0\)",
        ),
        ({"sample": {"guidance": "classifier"}}, r"classifier\.steps is 0: no classifier is trained"),
        ({"sample": {"label": 3}}, r"sample\.label is 3, but model\.class_conditional is false"),
        ({"sample": {"label": -1}}, r"sample\.label\n.* greater than or equal to 0"),
        ({"sample": {"guidance_scale": -1.0}}, r"sample\.guidance_scale\n.* greater than or equal to 0"),
        ({"sample": {"guidance_interval": [9, 3]}}, r"from the smaller to the larger time, got \[9\.0, 3\.0\]"),
        ({"sample": {"guidance_interval": [0, 1001]}}, r"guidance_interval \(1001\.0\) must not exceed process\.T"),
        ({**LABELS, "sample": {"guidance": "classifier_free", "label": 3}}, None),
        ({**LABELS, "sample": {"guidance": "classifier", "guidance_interval": [100, 900]}}, None),
        ({"classifier": {"steps": 9}, "sample": {"guidance": "classifier", "label": 3}}, None),
    ],
)
def test_parameters_that_contradict_each_other(changes: dict[str, dict[str, Any]], message: str | None) -> None:
    content = DIGITS.model_dump(by_alias=True)
    for section, values in changes.items():
        content[section] |= values
    if message is None:
        Params.model_validate(content)
        return
    with pytest.raises(ValueError, match=message):
        Params.model_validate(content)
