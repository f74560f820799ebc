"""Parameters and prepared images to the core's objects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from diffusion.process import NoiseSchedule
from pipelines.build import architecture, build_schedule
from pipelines.cluster import assemble
from pipelines.cluster.job import Job, Place
from pipelines.data.dataset import open_split
from pipelines.data.manifest import Manifest, read_manifest
from pipelines.errors import ParamsError
from pipelines.runs.local import LocalStore
from pipelines.sections import ModelParams, ProcessParams
from tests.pipelines.stage_inputs import DIGITS, prepared_digits


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_digits(tmp_path_factory.mktemp("data") / "prepared")


@pytest.fixture(scope="module")
def manifest(prepared: Path) -> Manifest:
    return read_manifest(prepared)


def model(values: dict[str, Any]) -> ModelParams:
    return ModelParams.model_validate({"channels": 8, "channel_multipliers": [1, 2], "blocks": 1} | values)


def test_networks_that_do_not_fit(manifest: Manifest) -> None:
    with pytest.raises(ParamsError, match=r"params\.yaml: model: image_size 8 cannot be halved 4 times"):
        architecture(model({"channel_multipliers": [1, 2, 2, 2, 2]}), manifest)
    with pytest.raises(ParamsError, match="attention_resolutions"):
        architecture(model({"attention_resolutions": [16]}), manifest)
    with pytest.raises(ParamsError, match="no labels"):
        architecture(model({"class_conditional": True}), manifest.model_copy(update={"classes": ()}))
    with pytest.raises(ParamsError, match=r"8x16.*squares"):
        architecture(model({}), manifest.model_copy(update={"shape": (1, 8, 16)}))


def test_the_architecture_of_labelled_images(manifest: Manifest) -> None:
    built = architecture(model({"class_conditional": True, "dropout": 0.1}), manifest)
    assert (built["image_size"], built["in_channels"], built["classes"], built["dropout"]) == (8, 1, 10, 0.1)
    assert architecture(model({}), manifest)["classes"] is None
    assert architecture(model({"class_conditional": True}), manifest, null_label=True)["null_label"]


@pytest.mark.parametrize(
    ("process", "wanted"),
    [
        ({"schedule": "linear", "T": 50, "beta_T": 0.1}, NoiseSchedule.linear(50, beta_T=0.1)),
        ({"schedule": "linear", "T": 50, "rescale": False}, NoiseSchedule.linear(50, rescale=False)),
        ({"schedule": "cosine", "T": 50}, NoiseSchedule.cosine(50)),
        ({"schedule": "log_snr", "T": 50, "log_snr_max": 3.0}, NoiseSchedule.log_snr_linear(50, log_snr_max=3.0)),
    ],
)
def test_schedules(process: dict[str, Any], wanted: NoiseSchedule) -> None:
    schedule = build_schedule(ProcessParams.model_validate(process))
    assert torch.equal(schedule.log_alpha_bar, wanted.log_alpha_bar)


def test_a_schedule_that_cannot_be() -> None:
    with pytest.raises(ParamsError, match=r"params\.yaml: process: T must be at least 2"):
        build_schedule(ProcessParams.model_validate({"schedule": "log_snr", "T": 20}).model_copy(update={"T": 1}))


@pytest.mark.parametrize("images", [0, 1, 2])
def test_a_validation_bound_is_of_two_images_or_more(
    images: int, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single one has no standard error."""
    split = open_split(prepared, "val")
    monkeypatch.setattr(assemble, "open_split", lambda *_: replace(split, ids=split.ids[:images]))
    job = Job(DIGITS, prepared, LocalStore(tmp_path), "0" * 16, 5, 2)
    found = assemble.make_validation(job, Place(0, 1, torch.device("cpu")))
    assert (found is None) is (images < 2)
