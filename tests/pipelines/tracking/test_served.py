"""A registered version, loaded as MLflow loads it: what it answers, and what it refuses to be."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException

from diffusion.drawing import Guidance, Recipe, draw
from diffusion.interop import from_diffusers, to_diffusers
from diffusion.models import UNet
from diffusion.models.saved import load_model, save_model
from diffusion.process import NoiseSchedule
from pipelines import draw as command
from pipelines.errors import CheckpointError
from pipelines.project import workspace
from tests.diffusion.models.test_saved_damage import edit
from tests.pipelines.conftest import Workplace
from tests.pipelines.stage_inputs import saved_model
from tests.pipelines.tracking.served_versions import loaded, registered

pytestmark = pytest.mark.filterwarnings("ignore")  # of MLflow itself, when it is imported and when it logs


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved_model(tmp_path / "model", classes=3, null_label=True)


def drawn(model: Path, recipe: Recipe, seed: int, count: int, label: int | None) -> np.ndarray[Any, Any]:
    images = draw(load_model(model), recipe, seed, range(count), label=label).images
    return np.rint(images.transpose(0, 2, 3, 1) * (255 / 16)).astype(np.uint8)


def test_requests(workplace: Workplace, model: Path) -> None:
    registered(workplace.settings, model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="The ``noload`` loader strategy")  # inside MLflow's store
        version = loaded(workplace.settings)
    every = Recipe("ancestral", 20, options={"variance": "small"})
    guided = Recipe("ddim", 4, guidance=Guidance("classifier_free", 2.0))
    wanted = {
        "one": drawn(model, every, 0, 1, None),
        "two": drawn(model, Recipe("ddim", 2), 0, 2, None),
        "guided": drawn(model, guided, 2**60 + 1, 2, 1),
    }
    full = {"count": 2, "seed": 2**60 + 1, "sampler": "ddim", "steps": 4, "class": 1, "guidance": 2.0}
    nothing = {"count": 2, "sampler": "ddim", "steps": 2, "class": None, "guidance": None}
    for asked, images in [
        ({"count": 1}, "one"),
        ({"count": 2, "sampler": "ddim", "steps": 2}, "two"),
        (nothing, "two"),
        (pd.DataFrame([nothing]), "two"),
        (full, "guided"),
        (pd.DataFrame([full]), "guided"),
        (full | {"guidance": 2}, "guided"),
    ]:
        np.testing.assert_array_equal(version.predict(asked), wanted[images])
    for refused, message in [
        ({"count": "2"}, "Failed to enforce schema"),
        ({"count": 2.5}, "Failed to enforce schema"),
        ({"sampler": 3}, "Failed to enforce schema"),
        ({"class": "cat"}, "class must be a number, got 'cat'"),
        ({"guidance": "much"}, "guidance must be a number, got 'much'"),
        ({"class": 0.5}, "class must be a whole number, got 0.5"),
        ({"class": 3}, r"class 3 was asked for, but the model's classes are 0\.\.2"),
        ({"count": 0}, "count and steps must be at least 1, got 0 and 100"),
        ({"sampler": "best"}, "sampler must be one of .*, got 'best'"),
        ({"lable": 1}, "one row with some of count, seed, sampler, steps, class, guidance; got 0 rows"),
        (pd.DataFrame([{"count": 1}, {"count": 2}]), "got 2 rows"),
    ]:
        with pytest.raises(MlflowException, match=message):
            version.predict(refused)


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def added(name: str) -> Callable[[Path], Any]:
    return lambda path: path.with_name(name).write_bytes(b"")


def linked(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


CODE = r"of this version is damaged, missing or not what was registered: register it again"


HARMS: list[tuple[str, Callable[[Path], Any], str]] = [
    ("artifacts/model/model.safetensors", flipped, r"model\.safetensors is damaged or not the file"),
    ("artifacts/model/model.json", flipped, r"model\.json is damaged"),
    ("code/diffusion/process/schedule.py", flipped, rf"code/diffusion/process/schedule\.py {CODE}"),
    ("code/diffusion/models/ema.py", Path.unlink, rf"code/diffusion/models/ema\.py {CODE}"),
    ("code/diffusion/models/ema.py", linked, rf"code/diffusion/models/ema\.moved {CODE}"),
    ("code/diffusion/models/ema.py", added("extra.py"), rf"code/diffusion/models/extra\.py {CODE}"),
    ("code/diffusion/models/ema.py", added("extra.pyc"), rf"code/diffusion/models/extra\.pyc {CODE}"),
    ("code/diffusion/models/ema.py", added("ema.so"), rf"code/diffusion/models/ema\.so {CODE}"),
    ("served.py", lambda path: path.write_text(path.read_text() + "\n"), rf"served\.py {CODE}"),
]


def test_damage_is_refused_before_the_code_runs(workplace: Workplace, model: Path, tmp_path: Path) -> None:
    version = registered(workplace.settings, model)
    for number, (name, harm, message) in enumerate(HARMS):
        copy = tmp_path / str(number)
        shutil.copytree(version, copy)
        harm(copy / name)
        with pytest.raises(ValueError, match=message):
            loaded(workplace.settings, str(copy))


def test_other_code_that_the_process_has_is_refused(
    workplace: Workplace, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version whose code differs by a comment from the `diffusion` of this process, which would draw in its place."""
    shutil.copytree(workspace() / "diffusion", tmp_path / "diffusion", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "diffusion/models/ema.py").open("a") as file:
        file.write("# changed\n")
    monkeypatch.setattr("pipelines.tracking.model.workspace", lambda: tmp_path)
    registered(workplace.settings, model)
    with pytest.raises(
        ValueError, match=r"imported other code .*/diffusion differs in code/diffusion/models/ema\.py; load"
    ):
        loaded(workplace.settings)


def run_draw(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["draw", "models:/toy@champion", "--steps", "2", "--out", str(out)])
    command.main()


def test_draw_refuses_another_model(
    workplace: Workplace, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damaged, or whole and valid but not the one that the registry's tag names: also under a description that
    claims the digest."""
    version = registered(workplace.settings, model)
    place = version / "artifacts/model"
    run_draw(monkeypatch, tmp_path / "a.npy")
    other = saved_model(tmp_path / "other", classes=3, null_label=True, scale=0.2)
    for name in ("model.safetensors", "model.json"):
        flipped(place / name)
        with pytest.raises(CheckpointError, match=f"{name} is damaged"):
            run_draw(monkeypatch, tmp_path / "b.npy")
        shutil.copy2(model / name, place / name)
    shutil.copytree(other, place, dirs_exist_ok=True)
    with pytest.raises(CheckpointError, match=r"version 1 of toy holds another model .* tag model\.digest is"):
        run_draw(monkeypatch, tmp_path / "b.npy")
    with pytest.raises(ValueError, match="the model of this version is not the one that was registered"):
        loaded(workplace.settings)
    edit(place, digests=json.loads((model / "model.json").read_text())["digests"])
    with pytest.raises(CheckpointError, match="holds another model"):
        run_draw(monkeypatch, tmp_path / "b.npy")
    assert not (tmp_path / "b.npy").exists()


@pytest.mark.slow
def test_a_model_of_diffusers_is_served(workplace: Workplace, tmp_path: Path) -> None:
    """Converted, registered, made champion, and loaded from there."""
    torch.manual_seed(0)
    net = UNet(8, 1, 128, (1,), blocks=1)
    rest: dict[str, Any] = {"schedule": NoiseSchedule.linear(20), "levels": 17}
    weights = {name: value + 0.01 * torch.randn_like(value) for name, value in net.state_dict().items()}
    own, imported = tmp_path / "own", tmp_path / "imported"
    save_model(own, architecture=net.architecture.to_json(), ema=weights, raw=weights, card={}, **rest)
    to_diffusers(load_model(own), tmp_path / "theirs")
    found = from_diffusers(tmp_path / "theirs")
    read: dict[str, Any] = {"ema": found.weights, "raw": found.weights, "card": found.card}
    save_model(imported, architecture=found.architecture.to_json(), **read, **rest)
    registered(workplace.settings, imported)
    images = loaded(workplace.settings).predict({"count": 2, "sampler": "ddim", "steps": 3})
    np.testing.assert_array_equal(images, drawn(own, Recipe("ddim", 3), 0, 2, None))
