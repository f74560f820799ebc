"""Model files: each kind of damage is refused, with a remedy."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffusion.models.description import Description
from diffusion.models.saved import load_model
from diffusion.models.sealed import sealed


def edit(folder: Path, **changes: Any) -> None:
    """Change model.json so that its own SHA-256 still matches, as only code that writes the format could."""
    values = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(sealed(values | changes)))


def replace_tensors(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Put other tensors in the place of model.safetensors, with a SHA-256 that matches."""
    save_file(tensors, folder / "model.safetensors")
    edit(folder, sha256=sha256((folder / "model.safetensors").read_bytes()).hexdigest())


class TestDamage:
    @pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
    def test_a_missing_file(self, folder: Path, name: str) -> None:
        (folder / name).unlink()
        with pytest.raises(
            ValueError, match=rf"no model in .*: {name} is missing; copy the model's whole folder again"
        ):
            load_model(folder)

    def test_a_missing_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"no model in .*nowhere: model.json is missing"):
            load_model(tmp_path / "nowhere")

    @pytest.mark.parametrize("cut", [1, 1000, 10**9])
    def test_truncated_tensors(self, folder: Path, cut: int) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[: -min(cut, path.stat().st_size)])
        with pytest.raises(ValueError, match=r"damaged or not the file that model\.json describes"):
            load_model(folder)

    @pytest.mark.parametrize("place", [0.0, 0.02, 0.5, 0.999])
    def test_a_flipped_bit_in_the_tensors(self, folder: Path, place: float) -> None:
        path = folder / "model.safetensors"
        data = bytearray(path.read_bytes())
        data[int(place * len(data))] ^= 0b0000_1000
        path.write_bytes(data)
        with pytest.raises(ValueError, match="SHA-256"):
            load_model(folder)

    def test_a_flipped_bit_anywhere_in_the_description(self, folder: Path) -> None:
        path = folder / "model.json"
        intact = path.read_bytes()
        for index in range(len(intact)):
            data = bytearray(intact)
            data[index] ^= 0b0000_0001
            path.write_bytes(data)
            try:
                Description.read(folder)
            except ValueError:
                continue
            assert json.loads(data) == json.loads(intact), f"byte {index} changed what is read and was not noticed"

    def test_a_truncated_description(self, folder: Path) -> None:
        path = folder / "model.json"
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(ValueError, match=r"model.json is damaged .*: copy the model's whole folder again"):
            load_model(folder)

    def test_a_description_that_is_no_object(self, folder: Path) -> None:
        (folder / "model.json").write_text("[]")
        with pytest.raises(ValueError, match="must hold an object, got list"):
            load_model(folder)

    def test_an_edited_description(self, folder: Path) -> None:
        path = folder / "model.json"
        path.write_text(path.read_text().replace('"levels": 17', '"levels": 16'))
        with pytest.raises(ValueError, match="damaged or was edited"):
            load_model(folder)

    @pytest.mark.parametrize("version", [0, 1, "2", None])
    def test_an_unknown_format(self, folder: Path, version: object) -> None:
        edit(folder, format_version=version)
        with pytest.raises(ValueError, match=rf"format_version {version}, this code reads 2: use the version"):
            load_model(folder)

    def test_a_missing_or_unknown_field(self, folder: Path) -> None:
        edit(folder, surprise=1)
        with pytest.raises(ValueError, match="damaged or was edited"):
            load_model(folder)


class TestMismatch:
    def test_tensors_of_another_width(self, folder: Path) -> None:
        architecture = json.loads((folder / "model.json").read_text())["architecture"]
        edit(folder, architecture=architecture | {"channels": 16})
        with pytest.raises(ValueError, match=r"do not fit the architecture: .* has shape .*, wanted"):
            load_model(folder)

    def test_tensors_of_a_deeper_network(self, folder: Path) -> None:
        architecture = json.loads((folder / "model.json").read_text())["architecture"]
        edit(folder, architecture=architecture | {"blocks": 2})
        with pytest.raises(ValueError, match=r"do not fit the architecture: ema\.down\.0\.blocks\.1\..* is missing"):
            load_model(folder)

    def test_an_architecture_of_a_later_version(self, folder: Path) -> None:
        architecture = json.loads((folder / "model.json").read_text())["architecture"]
        edit(folder, architecture=architecture | {"rotary": True})
        with pytest.raises(ValueError, match="unknown in the architecture: rotary"):
            load_model(folder)

    def test_an_architecture_without_its_size(self, folder: Path) -> None:
        edit(folder, architecture={"image_size": 8})
        with pytest.raises(ValueError, match="missing in the architecture: in_channels, channels, channel_multipliers"):
            load_model(folder)

    def test_a_schedule_of_another_length(self, folder: Path) -> None:
        edit(folder, T=21)
        with pytest.raises(ValueError, match=r"schedule.log_alpha_bar has shape \(21,\), wanted \(22,\)"):
            load_model(folder)

    def test_other_tensors_under_a_valid_hash(self, folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        tensors["raw.extra"] = torch.zeros(1)
        replace_tensors(folder, tensors)
        with pytest.raises(ValueError, match=r"raw.extra is unknown"):
            load_model(folder)

    def test_weights_of_an_unknown_kind(self, folder: Path) -> None:
        with pytest.raises(ValueError, match="'best'"):
            load_model(folder, "best")  # type: ignore[arg-type]
