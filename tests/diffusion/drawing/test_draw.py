"""Images by their numbers: noise, labels, and the frames of the reverse process."""

from functools import partial

import numpy as np
import pytest
import torch

from diffusion.drawing import Recipe, draw
from diffusion.drawing.draw import labels
from diffusion.models.saved import SavedModel
from diffusion.models.unet import UNet
from diffusion.process import NoiseSchedule, to_levels
from diffusion.process.parameterization import Target
from diffusion.samplers import SAMPLERS, Ancestral, sample
from diffusion.training.random import normal_per_image

S = NoiseSchedule.log_snr_linear(20)


def model(classes: int | None = None, learned_variance: bool = False) -> SavedModel:
    torch.manual_seed(0)
    net = UNet(8, 1, 8, (1,), blocks=1, classes=classes, learned_variance=learned_variance)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return SavedModel(
        net.eval().requires_grad_(False), S, 17, (1, 8, 8), classes, Target.EPS, learned_variance, "digest", {}
    )


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_draws(name: str) -> None:
    """An image is that of its number, whatever else is in its batch, up to the rounding of the kernels."""
    saved, recipe = model(), Recipe(name, 4)
    drawn = draw(saved, recipe, 3, range(6), shown=2, moments=3)
    assert drawn.images.shape == (6, 1, 8, 8)
    assert drawn.images.dtype == np.uint8
    again = draw(saved, recipe, 3, [4, 2]).images.astype(int)
    assert np.abs(again - drawn.images[[4, 2]]).max() <= 1
    assert (again != drawn.images[[4, 2]]).mean() < 0.05
    assert drawn.calls == (recipe.calls(S) or drawn.calls)
    assert drawn.calls >= 4


def test_a_learned_variance_is_used() -> None:
    saved = model(learned_variance=True)
    small, learned = (draw(saved, Recipe(options={"variance": v}), 0, range(4)).images for v in ("small", "learned"))
    assert (small != learned).any()


def test_labels_are_those_asked_for() -> None:
    saved = model(classes=3)
    x_T = normal_per_image(0, "sample-x_T", range(4), 0, (1, 8, 8))

    def by_hand(y: list[int]) -> np.ndarray:
        x_0 = sample(
            partial(saved.net, y=torch.tensor(y)),
            S,
            x_T,
            Ancestral(),
            noise=lambda k, shape: normal_per_image(0, "sample", range(4), k, shape[1:]),
        )
        return to_levels(x_0, 17).numpy()

    np.testing.assert_array_equal(draw(saved, Recipe(), 0, range(4)).images, by_hand([0, 1, 2, 0]))
    np.testing.assert_array_equal(draw(saved, Recipe(), 0, range(4), label=2).images, by_hand([2, 2, 2, 2]))
    assert (by_hand([2, 2, 2, 2]) != by_hand([0, 1, 2, 0])).any()


def test_a_class_that_is_not_there_is_refused() -> None:
    assert labels(None, range(4), None) is None
    with pytest.raises(ValueError, match="class 1 was asked for, but the model was trained without classes"):
        draw(model(), Recipe(), 0, range(2), label=1)
    for label in (-1, 3):
        with pytest.raises(ValueError, match=rf"class {label} was asked for, but the model's classes are 0\.\.2"):
            draw(model(classes=3), Recipe(), 0, range(2), label=label)


def test_the_frames_go_from_noise_to_the_images() -> None:
    drawn = draw(model(), Recipe(), 0, range(8), shown=5)
    assert drawn.frames.times == [20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0]
    np.testing.assert_array_equal(drawn.frames.images[-1], drawn.images[:5])
    noise = to_levels(normal_per_image(0, "sample-x_T", range(5), 0, (1, 8, 8)), 17).numpy()
    np.testing.assert_array_equal(drawn.frames.images[0], noise)
    assert draw(model(), Recipe(steps=2), 0, range(3), shown=3).frames.times == [20, 10, 0]
    assert draw(model(), Recipe(steps=2), 0, range(3)).frames.times == []
