"""The classifier of noised images, and its file."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffusion.models import Classifier, UNet
from diffusion.models.saved import load_model
from diffusion.models.saved_classifier import load_classifier, save_classifier
from diffusion.process import NoiseSchedule
from diffusion.samplers import ClassifierGuide

SCHEDULE = NoiseSchedule.cosine(20)
"""That of the model in conftest.py."""
SIZES: dict[str, Any] = {"image_size": 8, "in_channels": 1, "channels": 8, "channel_multipliers": (1, 2), "blocks": 1}


def awake() -> Classifier:
    """Without zero weights."""
    torch.manual_seed(0)
    net = Classifier(3, **SIZES)
    for parameter in net.parameters():
        nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.2)
    return net.eval()


def batch() -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(1)
    return torch.randn(4, 1, 8, 8, generator=source), torch.tensor([1, 5, 20, 20])


def test_it_is_the_u_nets_way_down() -> None:
    """The same parts by the same names, shapes and initial weights."""
    torch.manual_seed(0)
    net = UNet(**SIZES)
    torch.manual_seed(0)
    classifier = Classifier(3, **SIZES)
    shared = {name for name in net.state_dict() if name.startswith(("condition.", "head.", "down.", "middle."))}
    assert set(classifier.state_dict()) - shared == {"norm.weight", "norm.bias", "to_scores.weight", "to_scores.bias"}
    assert all(torch.equal(net.state_dict()[name], classifier.state_dict()[name]) for name in shared)


def test_untrained_it_holds_all_classes_for_equally_likely() -> None:
    assert Classifier(3, **SIZES)(*batch()).abs().max() == 0


def test_its_scores_depend_on_image_and_time_and_not_on_the_batch() -> None:
    net, (x_t, t) = awake(), batch()
    scores = net(x_t, t)
    assert scores.shape == (4, 3)
    torch.testing.assert_close(net(x_t[1:2], t[1:2]), scores[1:2])
    assert (net(x_t, t.flip(0)) - scores).abs().max() > 0.01
    torch.testing.assert_close(net(x_t, t.double()), scores)


def test_its_gradient_is_the_slope_of_log_p() -> None:
    """By a finite difference along the gradient, in float64."""
    net, (x_t, t), y = awake().double().requires_grad_(False), batch(), torch.tensor([0, 1, 2, 0])
    x_t = x_t.double()
    pull = ClassifierGuide(net, y)(x_t, t)
    rows, h = torch.arange(4), 1e-5
    up, down = (net(x_t + sign * h * pull, t).log_softmax(dim=1)[rows, y] for sign in (1, -1))
    torch.testing.assert_close((up - down) / (2 * h), pull.square().sum(dim=(1, 2, 3)), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"classes": 1}, "two classes or more apart, got 1"), ({"image_size": 9}, "cannot be halved 1 times")],
)
def test_a_classifier_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Classifier(**{"classes": 3, **SIZES, **changes})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_classifier(tmp_path / "classifier", awake(), SCHEDULE, 17, {"steps": 3})
    return tmp_path / "classifier"


def test_it_comes_back_as_it_was(saved: Path, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    found = load_classifier(saved)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found.net(*batch()), awake()(*batch()))
    assert not any(parameter.requires_grad for parameter in found.net.parameters())
    assert (found.classes, found.levels, found.card) == (3, 17, {"steps": 3})
    assert torch.equal(found.schedule.log_alpha_bar, SCHEDULE.log_alpha_bar)
    assert save_classifier(tmp_path / "again", awake(), SCHEDULE, 17, {"steps": 3}) == found.digest
    for path in saved.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["classifier.json", "classifier.safetensors"])
def test_damage_is_refused(saved: Path, name: str) -> None:
    path = saved / name
    content = bytearray(path.read_bytes())
    content[-9] ^= 0b100
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is damaged"):
        load_classifier(saved)
    path.unlink()
    with pytest.raises(ValueError, match=rf"{name} is missing"):
        load_classifier(saved)


def test_another_format_is_refused(saved: Path) -> None:
    path = saved / "classifier.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 2}))
    with pytest.raises(ValueError, match="format_version 2, this code reads 1"):
        load_classifier(saved)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    net = awake()
    nn.init.constant_(net.norm.bias, torch.nan)
    with pytest.raises(ValueError, match=r"classifier\.norm\.bias"):
        save_classifier(tmp_path, net, SCHEDULE, 17, {})


def test_it_guides_models_of_its_own_kind_alone(saved: Path, folder: Path) -> None:
    classifier, model = load_classifier(saved), load_model(folder)
    classifier.check_fits(model)
    classifier.check_fits(replace(model, classes=None))
    for changes, message in (
        ({"shape": (3, 8, 8)}, r"images shaped \(1, 8, 8\), and the model's are \(3, 8, 8\)"),
        ({"levels": 256}, "grey levels 17, and the model's are 256"),
        ({"classes": 10}, "classes 3, and the model's are 10"),
        ({"schedule": NoiseSchedule.cosine(21)}, "steps of noise 20, and the model's are 21"),
        ({"schedule": NoiseSchedule.linear(20)}, "another noise schedule"),
    ):
        with pytest.raises(ValueError, match=message):
            classifier.check_fits(replace(model, **changes))  # type: ignore[arg-type]
