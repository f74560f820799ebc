"""Folders of diffusers: both layouts, and every way in which one cannot be read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from diffusion.interop import from_diffusers
from diffusion.models.sealed import file_sha256
from tests.diffusion.interop.conftest import theirs

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flat")
    theirs(folder)
    return folder


@pytest.fixture
def copy(flat: Path, tmp_path: Path) -> Path:
    shutil.copytree(flat, tmp_path / "model")
    return tmp_path / "model"


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_both_layouts_and_the_card(copy: Path) -> None:
    found = from_diffusers(copy)
    for name, files in {"unet": ("config.json", WEIGHTS), "scheduler": ("scheduler_config.json",)}.items():
        (copy / name).mkdir()
        for file in files:
            (copy / file).rename(copy / name / file)
    (copy / "model_index.json").write_text('{"_class_name": "DDPMPipeline"}')
    again = from_diffusers(copy)
    assert again.card == found.card
    assert all(torch.equal(again.weights[name], value) for name, value in found.weights.items())
    source = found.card["imported"]
    assert source["sha256"] == file_sha256(copy / "unet" / WEIGHTS)
    assert source["config"] == json.loads((copy / "unet/config.json").read_text())
    assert source["scheduler"]["beta_schedule"] == "linear"


def test_a_pipeline_with_more_than_a_network_for_images(copy: Path) -> None:
    (copy / "model_index.json").write_text('{"_class_name": "LDMPipeline"}')
    with pytest.raises(
        ValueError, match=r"model_index\.json: _class_name is 'LDMPipeline', wanted one of DDPMPipeline"
    ):
        from_diffusers(copy)


@pytest.mark.parametrize("name", ["config.json", "scheduler_config.json", WEIGHTS])
def test_a_missing_file(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ValueError, match=rf"{name} is missing"):
        from_diffusers(copy)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]"])
@pytest.mark.parametrize("name", ["config.json", "scheduler_config.json"])
def test_a_damaged_config(copy: Path, name: str, content: bytes) -> None:
    (copy / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} (is damaged .*: get it again|must hold an object, got list)"):
        from_diffusers(copy)


def test_weights_in_a_pickle(copy: Path) -> None:
    (copy / WEIGHTS).rename(copy / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match=r"a \.bin is a pickle, .* Get diffusion_pytorch_model\.safetensors, or let"):
        from_diffusers(copy)


def test_weights_in_parts(copy: Path) -> None:
    (copy / WEIGHTS).rename(copy / "diffusion_pytorch_model-00001-of-00002.safetensors")
    with pytest.raises(ValueError, match=r"is missing; there is .*-00001-of-00002\.safetensors: put the whole weights"):
        from_diffusers(copy)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.9999])
def test_cut_weights(copy: Path, kept: float) -> None:
    data = (copy / WEIGHTS).read_bytes()
    (copy / WEIGHTS).write_bytes(data[: int(kept * len(data))])
    with pytest.raises(ValueError, match=rf"{WEIGHTS} is cut or damaged .*: get it again"):
        from_diffusers(copy)


def test_a_flipped_bit_is_noticed_where_the_files_hash_is_known(copy: Path) -> None:
    known = file_sha256(copy / WEIGHTS)
    from_diffusers(copy, sha256=known.upper())
    data = bytearray((copy / WEIGHTS).read_bytes())
    data[-1000] ^= 1
    (copy / WEIGHTS).write_bytes(data)
    assert from_diffusers(copy).card["imported"]["sha256"] != known
    with pytest.raises(ValueError, match=rf"is not the file that was asked for: .* wanted {known}"):
        from_diffusers(copy, sha256=known)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv_in.bias": None}, r"conv_in\.bias is missing"),
        ({"extra": torch.zeros(1)}, "extra is unknown"),
        ({"conv_in.bias": torch.zeros(5)}, r"conv_in\.bias has shape \(5,\), wanted \(128,\)"),
        ({"conv_in.bias": torch.full((128,), torch.nan)}, r"1 tensors are not finite, conv_in\.bias first"),
        ({"conv_in.bias": torch.zeros(128, dtype=torch.int64)}, r"conv_in\.bias is torch\.int64, wanted floating"),
    ],
)
def test_weights_that_do_not_fit(copy: Path, changes: dict[str, torch.Tensor | None], message: str) -> None:
    tensors = {n: v for n, v in (load_file(copy / WEIGHTS) | changes).items() if v is not None}
    save_file(tensors, copy / WEIGHTS)
    with pytest.raises(ValueError, match=message):
        from_diffusers(copy)


def test_a_predicted_noise_at_zero_snr(copy: Path) -> None:
    edit(copy / "scheduler_config.json", rescale_betas_zero_snr=True)
    with pytest.raises(ValueError, match="at zero SNR"):
        from_diffusers(copy)
