"""Model files: what comes back, that the bytes are stable, and that each kind of damage is refused."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffusion.models import EMA, UNet
from diffusion.models.description import Description, sealed
from diffusion.models.saved import content_digest, load_model, save_model
from diffusion.process import NoiseSchedule

ARCHITECTURE: dict[str, Any] = {
    "image_size": 8,
    "in_channels": 1,
    "channels": 8,
    "channel_multipliers": (1, 2),
    "blocks": 1,
    "attention_resolutions": (4,),
    "dropout": 0.1,
    "classes": 3,
}
CARD = {"steps": 3, "note": "näher", "loss": 0.1 + 0.2, "devices": ["cpu"], "resolved": {"precision": None}}


@pytest.fixture
def model() -> dict[str, Any]:
    """What `save_model` is given after a little training."""
    torch.manual_seed(0)
    net = UNet(**ARCHITECTURE)
    ema = EMA(net, 0.9)
    for step in range(3):
        for parameter in net.parameters():
            parameter.data += torch.randn_like(parameter)
        ema.update(net, step)
    return {
        "architecture": dict(ARCHITECTURE),
        "ema": ema.tensors,
        "raw": net.state_dict(),
        "schedule": NoiseSchedule.cosine(20),
        "levels": 17,
        "card": dict(CARD),
    }


@pytest.fixture
def folder(model: dict[str, Any], tmp_path: Path) -> Path:
    """A saved model."""
    save_model(tmp_path / "model", **model)
    return tmp_path / "model"


def edit(folder: Path, **changes: Any) -> None:
    """Change model.json so that its own SHA-256 still matches, as only code that writes the format could."""
    values = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(sealed(values | changes)))


def replace_tensors(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Put other tensors in the place of model.safetensors, with a SHA-256 that matches."""
    save_file(tensors, folder / "model.safetensors")
    edit(folder, sha256=sha256((folder / "model.safetensors").read_bytes()).hexdigest())


class TestRoundTrip:
    @pytest.mark.parametrize("weights", ["ema", "raw"])
    def test_everything_comes_back(self, model: dict[str, Any], folder: Path, weights: Any) -> None:
        saved = load_model(folder, weights)
        for name, value in saved.net.state_dict().items():
            assert torch.equal(value, model[weights][name]), name
        assert torch.equal(saved.schedule.log_alpha_bar, model["schedule"].log_alpha_bar)
        assert (saved.levels, saved.shape, saved.classes) == (17, (1, 8, 8), 3)
        assert saved.card == CARD
        assert saved.net.architecture == UNet(**ARCHITECTURE).architecture

    def test_the_average_is_the_default(self, folder: Path) -> None:
        a, b, c = load_model(folder), load_model(folder, "ema"), load_model(folder, "raw")
        assert torch.equal(a.net.tail.weight, b.net.tail.weight)
        assert not torch.equal(a.net.tail.weight, c.net.tail.weight)
        assert a.digest == c.digest

    def test_the_network_computes_the_same(self, model: dict[str, Any], folder: Path) -> None:
        net = UNet(**ARCHITECTURE)
        net.load_state_dict(model["ema"])
        x, t, y = torch.randn(2, 1, 8, 8), torch.tensor([1, 20]), torch.tensor([0, 2])
        assert torch.equal(load_model(folder).net(x, t, y), net.eval()(x, t, y))

    def test_the_network_is_ready_for_inference(self, folder: Path) -> None:
        net = load_model(folder).net
        assert not any(module.training for module in net.modules())
        assert not any(parameter.requires_grad for parameter in net.parameters())

    def test_a_bfloat16_network_comes_back_in_float32(self, model: dict[str, Any], tmp_path: Path) -> None:
        model["raw"] = {name: value.bfloat16() for name, value in model["raw"].items()}
        save_model(tmp_path, **model)
        net = load_model(tmp_path, "raw").net
        assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
        assert torch.equal(net.tail.weight, model["raw"]["tail.weight"].float())

    def test_a_network_without_classes_comes_back_without(self, model: dict[str, Any], tmp_path: Path) -> None:
        architecture = {**ARCHITECTURE, "classes": None}
        state = UNet(**architecture).state_dict()
        save_model(tmp_path, **{**model, "architecture": architecture, "ema": state, "raw": state})
        assert load_model(tmp_path).classes is None

    def test_torchs_random_state_is_left_alone(self, folder: Path) -> None:
        before = torch.get_rng_state()
        load_model(folder)
        assert torch.equal(torch.get_rng_state(), before)

    def test_a_loaded_model_outlives_its_folder(self, folder: Path) -> None:
        saved = load_model(folder)
        weight = saved.net.tail.weight.clone()
        with (folder / "model.safetensors").open("r+b") as file:
            file.write(bytes((folder / "model.safetensors").stat().st_size))
        assert torch.equal(saved.net.tail.weight, weight)
        assert saved.schedule.T == 20

    def test_the_description_holds_what_people_and_tools_look_for(self, model: dict[str, Any], folder: Path) -> None:
        values = json.loads((folder / "model.json").read_text())
        assert values["format_version"] == 1
        assert values["shape"] == [1, 8, 8]
        assert values["levels"] == 17
        assert values["T"] == 20
        assert values["architecture"] == {
            **ARCHITECTURE,
            "channel_multipliers": [1, 2],
            "attention_resolutions": [4],
            "attention_heads": 1,
        }
        assert values["digests"]["ema"] == content_digest(model["ema"])
        assert values["digests"]["raw"] == content_digest(model["raw"])
        assert values["digests"]["content"] == load_model(folder).digest
        assert values["digests"]["content"] == content_digest(load_file(folder / "model.safetensors"))


class TestStableBytes:
    def test_saving_twice_gives_the_same_bytes(self, model: dict[str, Any], tmp_path: Path) -> None:
        digests = {save_model(tmp_path / name, **model) for name in "ab"}
        assert len(digests) == 1
        for file in ("model.safetensors", "model.json"):
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()

    def test_neither_order_nor_memory_format_changes_them(self, model: dict[str, Any], tmp_path: Path) -> None:
        save_model(tmp_path / "a", **model)
        strided = {
            name: value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
            for name, value in model["raw"].items()
        }
        model |= {"raw": dict(reversed(strided.items())), "card": dict(reversed(CARD.items()))}
        save_model(tmp_path / "b", **model)
        for file in ("model.safetensors", "model.json"):
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()

    def test_saving_what_was_loaded_gives_the_same_digest(self, folder: Path, tmp_path: Path) -> None:
        ema, raw = load_model(folder, "ema"), load_model(folder, "raw")
        digest = save_model(
            tmp_path / "again",
            architecture=ema.net.architecture.to_json(),
            ema=ema.net.state_dict(),
            raw=raw.net.state_dict(),
            schedule=ema.schedule,
            levels=ema.levels,
            card=ema.card,
        )
        assert digest == ema.digest
        assert (tmp_path / "again" / "model.json").read_bytes() == (folder / "model.json").read_bytes()

    def test_another_weight_or_schedule_is_another_digest(self, model: dict[str, Any], tmp_path: Path) -> None:
        first = save_model(tmp_path, **model)
        other_schedule = save_model(tmp_path, **{**model, "schedule": NoiseSchedule.linear(20)})
        other_card = save_model(tmp_path, **{**model, "card": {}})
        model["raw"]["tail.bias"] += 1e-6
        other_weight = save_model(tmp_path, **model)
        assert first == other_card
        assert len({first, other_schedule, other_weight}) == 3


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

    @pytest.mark.parametrize("version", [0, 2, "1", None])
    def test_an_unknown_format(self, folder: Path, version: object) -> None:
        edit(folder, format_version=version)
        with pytest.raises(ValueError, match=rf"format_version {version}, this code reads 1: use the version"):
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


class TestRefusedToSave:
    def test_weights_of_another_network(self, model: dict[str, Any], tmp_path: Path) -> None:
        model["raw"] = UNet(**{**ARCHITECTURE, "channels": 16}).state_dict()
        with pytest.raises(ValueError, match=r"do not fit the architecture: raw\."):
            save_model(tmp_path / "model", **model)
        assert not (tmp_path / "model").exists()

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_weights_that_are_not_finite(self, model: dict[str, Any], tmp_path: Path, value: float) -> None:
        model["ema"]["head.bias"][0] = value
        with pytest.raises(ValueError, match=r"1 tensors are not finite, ema\.head\.bias first"):
            save_model(tmp_path / "model", **model)

    @pytest.mark.parametrize("card", [{"loss": float("nan")}, {"path": Path("x")}, {1: 2, "a": 3}])
    def test_a_card_that_is_not_json(self, model: dict[str, Any], tmp_path: Path, card: dict[Any, Any]) -> None:
        with pytest.raises(ValueError, match="the card must hold finite numbers, text, lists and objects"):
            save_model(tmp_path / "model", **{**model, "card": card})

    def test_a_respaced_schedule(self, model: dict[str, Any], tmp_path: Path) -> None:
        model["schedule"] = model["schedule"].respaced([20, 10, 1])
        with pytest.raises(ValueError, match="respaced"):
            save_model(tmp_path / "model", **model)

    def test_fewer_than_two_levels(self, model: dict[str, Any], tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="levels must be 2 or more, got 1"):
            save_model(tmp_path / "model", **{**model, "levels": 1})

    def test_a_save_that_is_interrupted_leaves_no_model(
        self, model: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full_disk(*_: object) -> None:
            raise OSError("no space left on device")

        monkeypatch.setattr("diffusion.models.saved.save_file", full_disk)
        with pytest.raises(OSError, match="no space"):
            save_model(folder, **model)
        with pytest.raises(ValueError, match=r"model\.json is missing"):
            load_model(folder)
