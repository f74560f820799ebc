"""`python -m pipelines.convert`: from one library's folder to the other's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion.models import UNet
from diffusion.models.saved import load_model, save_model
from diffusion.process import NoiseSchedule
from pipelines import convert, draw
from pipelines.errors import CheckpointError, ParamsError, TrackingError
from tests.pipelines.conftest import Workplace
from tests.pipelines.stage_inputs import saved_model
from tests.pipelines.tracking.served_versions import registered


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of ours, wide enough for the other library."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    net = UNet(8, 1, 128, (1,), blocks=1)
    weights = {name: value + 0.01 * torch.randn_like(value) for name, value in net.state_dict().items()}
    save_model(
        folder,
        architecture=net.architecture.to_json(),
        ema=weights,
        raw={name: value + 0.01 for name, value in weights.items()},
        schedule=NoiseSchedule.linear(20),
        levels=17,
        card={},
    )
    return folder


def run(monkeypatch: pytest.MonkeyPatch, command: object, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    command.main()  # type: ignore[attr-defined]


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_there_and_back(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], weights: str
) -> None:
    """What comes back is a model whose average and weights are those that were exported, and it can be drawn."""
    run(monkeypatch, convert, "to-diffusers", model, tmp_path / "theirs", "--weights", weights)
    assert json.loads((tmp_path / "theirs/model_index.json").read_text())["_class_name"] == "DDPMPipeline"
    run(monkeypatch, convert, "from-diffusers", tmp_path / "theirs", tmp_path / "back", "--levels", 17)
    ours, back = load_model(model, weights), load_model(tmp_path / "back", "raw")  # type: ignore[arg-type]
    assert back.levels == 17
    assert f"model {back.digest[:12]}.. with 17 levels of grey: {tmp_path / 'back'}" in capsys.readouterr().out
    assert back.card["imported"]["file"] == "diffusion_pytorch_model.safetensors"
    for net in (back.net, load_model(tmp_path / "back").net):
        assert all(torch.equal(value, net.state_dict()[name]) for name, value in ours.net.state_dict().items())
    drawn = []
    for folder, which in ((model, weights), (tmp_path / "back", "ema")):
        run(monkeypatch, draw, folder, "--weights", which, "--steps", 3, "--count", 2, "--out", tmp_path / "a.npy")
        drawn.append(np.load(tmp_path / "a.npy"))
    np.testing.assert_array_equal(*drawn)


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_a_version_is_drawn_and_exported_with_its_own_weights(
    workplace: Workplace,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Those that were evaluated, as a loaded version draws with them, and not always the average."""
    registered(workplace.settings, model, "raw")
    for folder, options in (("models:/toy@champion", []), (model, ["--weights", "raw"])):
        out = tmp_path / ("theirs" if options else "version")
        run(monkeypatch, convert, "to-diffusers", folder, out, *options)
        assert "its raw weights" in capsys.readouterr().out
        run(monkeypatch, draw, folder, *options, "--steps", 3, "--count", 2, "--out", out.with_suffix(".npy"))
    tensors = "unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "version" / tensors).read_bytes() == (tmp_path / "theirs" / tensors).read_bytes()
    np.testing.assert_array_equal(np.load(tmp_path / "version.npy"), np.load(tmp_path / "theirs.npy"))


def test_bad_input(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParamsError, match="is there already: name a new folder"):
        run(monkeypatch, convert, "to-diffusers", model, tmp_path)
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        run(monkeypatch, convert, "from-diffusers", model, tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"channels is 8, wanted"):
        run(monkeypatch, convert, "to-diffusers", saved_model(tmp_path / "narrow"), tmp_path / "out")
    with pytest.raises(TrackingError, match="is written models:/NAME/VERSION"):
        run(monkeypatch, convert, "to-diffusers", "models:/a", tmp_path / "out")
    run(monkeypatch, convert, "to-diffusers", model, tmp_path / "theirs")
    with pytest.raises(CheckpointError, match="is not the file that was asked for"):
        run(monkeypatch, convert, "from-diffusers", tmp_path / "theirs", tmp_path / "out", "--sha256", "0" * 64)
    with pytest.raises(CheckpointError, match=r"levels must lie in 2\.\.256, got 257"):
        run(monkeypatch, convert, "from-diffusers", tmp_path / "theirs", tmp_path / "out", "--levels", 257)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["narrow", "theirs"]
