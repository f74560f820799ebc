"""Recipes: which sampler and times, and what does not fit a model."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from diffusion.drawing import Recipe
from diffusion.models.saved import SavedModel
from diffusion.models.unet import UNet
from diffusion.process import NoiseSchedule
from diffusion.process.parameterization import Target
from diffusion.samplers import DDIM, SAMPLERS, Ancestral, DPMSolver, PredictorCorrector, options_of, sample

S = NoiseSchedule.log_snr_linear(20)


@pytest.fixture(scope="module")
def saved() -> SavedModel:
    torch.manual_seed(0)
    net = UNet(8, 1, 8, (1,), blocks=1).eval().requires_grad_(False)
    return SavedModel(net, S, 17, (1, 8, 8), None, Target.EPS, False, "digest", {})


@pytest.mark.parametrize(
    ("recipe", "times"),
    [
        (Recipe(), list(range(20, 0, -1))),
        (Recipe("probability_flow"), [20, 1]),
        (Recipe(steps=4), [20, 15, 10, 5]),
        (Recipe(steps=4, spacing="leading"), [16, 11, 6, 1]),
        (Recipe(steps=2, spacing="linspaced"), [20, 1]),
    ],
)
def test_the_times_are_those_of_the_spacing(recipe: Recipe, times: list[int]) -> None:
    assert recipe.times(S) == times


def test_the_probability_flow_does_not_leave_zero_snr_in_one_step_to_the_data() -> None:
    """There the step is Euler's, and from T to 1 it would lead all images to their mean."""
    zero, recipe = NoiseSchedule.log_snr_linear(1000).rescaled_to_zero_snr(), Recipe("probability_flow")
    assert recipe.times(zero) == [1000, 999, 1]

    def x_0_of(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The best network for N(0, 0.04) data."""
        s = zero.interpolated(sorted({*t.tolist()}, reverse=True))
        alpha_bar, noise = s.alpha_bar[1].float(), s.one_minus_alpha_bar[1].float()
        return alpha_bar.sqrt() * 0.04 / (alpha_bar * 0.04 + noise) * x_t

    x_T = torch.randn(2000, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    x_0 = sample(x_0_of, zero, x_T, recipe.make(), times=recipe.times(zero), target="x_0", clip_x0=False)
    assert x_0.std().item() == pytest.approx(0.2, rel=0.05)


def test_karras_times_lie_between_whole_ones() -> None:
    times = Recipe("heun", 5, "karras").times(S)
    assert (times[0], times[-1]) == (20, 1)
    assert all(a > b for a, b in pairwise(times))
    assert any(t % 1 for t in times)


def test_samplers_are_made_from_plain_options() -> None:
    assert Recipe("ddim", options={"eta": 0.5}).make() == DDIM(0.5)
    assert Recipe("dpm_solver", options={"order": 3}).make() == DPMSolver(3)
    corrector = Recipe("predictor_corrector", options={"variance": "large", "snr": 0.1, "corrections": 2}).make()
    assert corrector == PredictorCorrector(Ancestral("large"), 0.1, 2)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_has_its_number_of_calls(name: str) -> None:
    wanted = {"heun": 9, "predictor_corrector": 9, "probability_flow": None}.get(name, 5)
    assert Recipe(name, 5).calls(S) == wanted
    assert isinstance(options_of(name), list)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sampler": "ddpm"}, r"sampler must be one of ancestral, ddim, dpm_solver, .*, unipc, got 'ddpm'"),
        ({"sampler": "euler", "options": {"eta": 1.0}}, r"euler has no option 'eta': it has no options"),
        ({"sampler": "ddim", "options": {"order": 1}}, r"ddim has no option 'order': its options are eta"),
        ({"sampler": "ddim", "options": {"eta": 2.0}}, r"eta must lie in \[0, 1\], got 2.0"),
        ({"spacing": "even"}, r"spacing must be one of trailing, leading, linspaced, karras, got 'even'"),
        ({"spacing": "karras"}, r"need a number of steps"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**values)


def test_what_does_not_fit_the_model_is_refused(saved: SavedModel) -> None:
    zero = replace(saved, schedule=S.rescaled_to_zero_snr())
    with_v = replace(zero, predicts=Target.V)
    Recipe(steps=5).check(saved)
    Recipe(steps=5).check(with_v)
    Recipe("euler_maruyama", 5, "leading").check(with_v)
    for recipe, model, message in [
        (Recipe(steps=21), saved, r"must lie in 1..T = 1..20, got 21"),
        (Recipe(options={"variance": "learned"}), saved, "has not learned one"),
        (Recipe(steps=5), zero, "zero"),
        (Recipe("euler_maruyama", 5), with_v, "does not begin at zero SNR"),
        (Recipe("heun", 5, "karras"), with_v, "infinite at zero SNR"),
    ]:
        with pytest.raises(ValueError, match=message):
            recipe.check(model)
