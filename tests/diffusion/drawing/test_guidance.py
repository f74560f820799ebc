"""Guidance of a saved model: what it stands for, and what it needs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from diffusion.drawing import Guidance, Recipe, draw
from diffusion.models import Classifier, UNet
from diffusion.models.saved import SavedModel
from diffusion.models.saved_classifier import SavedClassifier
from diffusion.process import NoiseSchedule, to_levels
from diffusion.process.parameterization import Target
from diffusion.samplers import DDIM, ClassifierFree, ClassifierGuide, sample
from diffusion.training.random import normal_per_image

S = NoiseSchedule.log_snr_linear(20)
SIZES: dict[str, Any] = {"image_size": 8, "in_channels": 1, "channels": 8, "channel_multipliers": (1,), "blocks": 1}


def awake(net: nn.Module, std: float = 0.1) -> Any:
    torch.manual_seed(0)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=std)
    return net.eval().requires_grad_(False)


def model(classes: int | None = 3, *, null_label: bool = True) -> SavedModel:
    net = awake(UNet(**SIZES, classes=classes, null_label=null_label))
    return SavedModel(net, S, 17, (1, 8, 8), classes, Target.EPS, False, "digest", {}, null_label)


CLASSIFIER = SavedClassifier(awake(Classifier(3, **SIZES), 0.4), S, 17, "digest", {})


def drawn(saved: SavedModel, guidance: Guidance, label: int | None = None) -> np.ndarray:
    recipe = Recipe("ddim", 5, guidance=guidance)
    return draw(saved, recipe, 0, range(4), label=label, classifier=CLASSIFIER).images


def by_hand(model: Callable[..., torch.Tensor], guide: Any = None) -> np.ndarray:
    x_T = normal_per_image(0, "sample-x_T", range(4), 0, (1, 8, 8))
    return to_levels(sample(model, S, x_T, DDIM(), times=[20, 16, 12, 8, 4], guide=guide), 17).numpy()


def test_each_kind_is_that_of_the_samplers() -> None:
    """The classes take turns, or all images are of one; the interval and the scale are handed on."""
    saved, y, all_2 = model(), torch.tensor([0, 1, 2, 0]), torch.tensor([2, 2, 2, 2])
    free = Guidance("classifier_free", 3.0, (8, 16))
    led = Guidance("classifier", 40.0, (8, 16))
    np.testing.assert_array_equal(drawn(saved, free), by_hand(ClassifierFree(saved.net, y, 3, 3.0, (8, 16))))
    np.testing.assert_array_equal(drawn(saved, free, 2), by_hand(ClassifierFree(saved.net, all_2, 3, 3.0, (8, 16))))
    for labels, label in ((y, None), (all_2, 2)):
        guide = ClassifierGuide(CLASSIFIER.net, labels, 40.0, (8, 16))
        expected = by_hand(lambda x, t, labels=labels: saved.net(x, t, labels), guide)
        np.testing.assert_array_equal(drawn(saved, led, label), expected)
        untold = model(None, null_label=False)
        np.testing.assert_array_equal(drawn(untold, led, label), by_hand(untold.net, guide))
    plain = drawn(saved, Guidance())
    assert (drawn(saved, free) != plain).any()
    assert (drawn(saved, led) != plain).any()
    np.testing.assert_array_equal(drawn(saved, replace(free, scale=0.0)), plain)


def test_a_classifier_that_is_not_asked_for_changes_nothing() -> None:
    untold = model(None, null_label=False)
    np.testing.assert_array_equal(drawn(untold, Guidance()), by_hand(untold.net))
    with pytest.raises(ValueError, match="class 1 was asked for, but the model was trained without classes"):
        drawn(untold, Guidance(), 1)


@pytest.mark.parametrize(
    ("saved", "guidance", "classifier", "message"),
    [
        (model(None, null_label=False), Guidance("classifier_free"), None, "trained without classes"),
        (model(null_label=False), Guidance("classifier_free"), None, r"train it with train\.label_dropout"),
        (model(), Guidance("classifier"), None, "there is no classifier"),
        (replace(model(), levels=256), Guidance("classifier"), CLASSIFIER, "does not fit the model: grey levels 17"),
    ],
)
def test_what_is_lacking_is_named_before_anything_is_drawn(
    saved: SavedModel, guidance: Guidance, classifier: SavedClassifier | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(guidance=guidance).check(saved, classifier)
    with pytest.raises(ValueError, match=message):
        draw(saved, Recipe(steps=2, guidance=guidance), 0, range(2), classifier=classifier)


def test_a_kind_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="one of none, classifier_free, classifier, got 'clip'"):
        Guidance("clip")
