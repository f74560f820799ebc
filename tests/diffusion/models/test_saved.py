"""Model files: what comes back, that the bytes are stable, what cannot be saved."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from diffusion.models import UNet
from diffusion.models.saved import content_digest, load_model, save_model
from diffusion.process import NoiseSchedule
from tests.diffusion.models.conftest import ARCHITECTURE, CARD


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
        assert not load_model(tmp_path).null_label

    def test_a_network_with_a_null_label_says_so(self, model: dict[str, Any], tmp_path: Path) -> None:
        architecture = {**ARCHITECTURE, "null_label": True}
        state = UNet(**architecture).state_dict()
        save_model(tmp_path, **{**model, "architecture": architecture, "ema": state, "raw": state})
        assert (load_model(tmp_path).classes, load_model(tmp_path).null_label) == (3, True)

    def test_a_schedule_down_to_zero_snr(self, model: dict[str, Any], tmp_path: Path) -> None:
        schedule = model["schedule"].rescaled_to_zero_snr()
        save_model(tmp_path, **{**model, "schedule": schedule})
        assert torch.equal(load_model(tmp_path).schedule.log_alpha_bar, schedule.log_alpha_bar)

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
        assert values["format_version"] == 2
        assert values["shape"] == [1, 8, 8]
        assert values["levels"] == 17
        assert values["T"] == 20
        assert values["architecture"] == {
            **ARCHITECTURE,
            "channel_multipliers": [1, 2],
            "attention_resolutions": [4],
            "attention_heads": 1,
            "fourier_features": [],
            "learned_variance": False,
            "null_label": False,
        }
        assert values["predicts"] == "eps"
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

    @pytest.mark.parametrize("levels", [1, 257])
    def test_more_levels_than_a_byte_has_or_only_one(self, model: dict[str, Any], tmp_path: Path, levels: int) -> None:
        with pytest.raises(ValueError, match=rf"levels must lie in 2\.\.256, got {levels}"):
            save_model(tmp_path / "model", **{**model, "levels": levels})

    def test_a_save_that_is_interrupted_leaves_no_model(
        self, model: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full_disk(*_: object) -> None:
            raise OSError("no space left on device")

        monkeypatch.setattr("diffusion.models.saved.save", full_disk)
        with pytest.raises(OSError, match="no space"):
            save_model(folder, **model)
        with pytest.raises(ValueError, match=r"model\.json is missing"):
            load_model(folder)
