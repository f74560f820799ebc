"""Both configs: what is the same, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import diffusers
import pytest
import torch

from diffusion.interop import scheduler_config, unet_config
from diffusion.models.architecture import Architecture
from diffusion.process import NoiseSchedule, Target
from tests.diffusion.interop.conftest import SMALL

CONFIG: dict[str, Any] = {"_class_name": "UNet2DModel", "_diffusers_version": "0.0.4", **SMALL}


def architecture(**changes: Any) -> Architecture:
    return unet_config.architecture_of(unet_config.complete(CONFIG | changes))


@pytest.mark.parametrize(
    ("field", "got", "wanted"),
    [
        ("_class_name", "UNet2DConditionModel", "UNet2DModel"),
        ("center_input_sample", True, "False"),
        ("time_embedding_type", "fourier", "'positional'"),
        ("freq_shift", 0, "1"),
        ("mid_block_type", None, "'UNetMidBlock2D'"),
        ("mid_block_scale_factor", 1.4, "1"),
        ("downsample_padding", 1, "0"),
        ("downsample_type", "resnet", "'conv'"),
        ("upsample_type", "resnet", "'conv'"),
        ("act_fn", "gelu", "'silu'"),
        ("norm_eps", 1e-5, "1e-06"),
        ("resnet_time_scale_shift", "scale_shift", "'default'"),
        ("add_attention", False, "True"),
        ("class_embed_type", "timestep", "None"),
        ("time_embedding_dim", 256, "512 or null"),
        ("block_out_channels", [128, 192], "multiples of the first, 128; 192 is none"),
        ("out_channels", 4, "3, or 6 for a learned variance"),
        ("norm_num_groups", 16, r"\[32\], the groups that our network has at these widths"),
        ("attn_norm_num_groups", 16, r"\[32\], the groups"),
        ("sample_size", None, "the side of the images"),
        ("sample_size", [8, 16], "the side of the images, which are squares"),
        ("down_block_types", ["SkipDownBlock2D", "DownBlock2D"], "2 of DownBlock2D and AttnDownBlock2D"),
        ("up_block_types", ["UpBlock2D"], "2 of UpBlock2D and AttnUpBlock2D"),
        ("up_block_types", ["UpBlock2D", "UpBlock2D"], r"\['UpBlock2D', 'AttnUpBlock2D'\], the way down mirrored"),
        ("attention_head_dim", 48, r"null, or a divisor of \[128\]"),
    ],
)
def test_a_network_that_ours_cannot_be(field: str, got: object, wanted: str) -> None:
    with pytest.raises(
        ValueError, match=rf"config\.json: {field} is .*, and our network can only be one with {wanted}"
    ):
        architecture(**{field: got})


def test_heads_of_one_width_over_levels_of_several() -> None:
    with pytest.raises(ValueError, match=r"attention_head_dim is 32, .* \[128, 256\] with one quotient"):
        architecture(block_out_channels=[128, 256], attention_head_dim=32)


def test_groups_of_a_narrow_network() -> None:
    with pytest.raises(ValueError, match=r"norm_num_groups is 32, .*\[16, 32\]"):
        architecture(block_out_channels=[64, 64])


def test_an_unknown_field() -> None:
    with pytest.raises(ValueError, match=r"config\.json: rotary = True is unknown here, .*: take it out"):
        architecture(rotary=True)


def test_absent_fields_are_what_diffusers_takes_them_for() -> None:
    theirs = dict(diffusers.UNet2DModel(**SMALL).config)
    known = {name: value for name, value in theirs.items() if not name.startswith("_")}
    read = unet_config.complete(CONFIG)
    assert set(read) == set(known)
    assert {n: v for n, v in read.items() if v != known[n] and v != list(known[n] or ())} == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fourier_features": (7, 8)}, r"fourier_features is \(7, 8\), wanted \(\)"),
        ({"classes": 3, "null_label": True}, "null_label is True, wanted False"),
        ({"channel_multipliers": (2, 2)}, r"channel_multipliers is \(2, 2\), wanted 1 as the first"),
        ({"channel_multipliers": (1, 2), "attention_heads": 4}, "attention_heads is 4, wanted 1, or one"),
        ({"channels": 64}, r"channels is 64, wanted as many groups in each normalisation, not \[16, 32\]: 128"),
    ],
)
def test_what_the_other_library_has_no_place_for(changes: dict[str, Any], message: str) -> None:
    small: dict[str, Any] = {"channels": 128, "channel_multipliers": (1, 1), "attention_resolutions": (8,)}
    a = Architecture(image_size=8, in_channels=3, **{**small, **changes})
    with pytest.raises(ValueError, match=f"UNet2DModel cannot hold this network: {message}"):
        unet_config.config_of(a)


SCHEDULES: list[dict[str, Any]] = [
    {},
    {"beta_schedule": "linear", "beta_start": 1e-3, "beta_end": 0.05, "num_train_timesteps": 100},
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 300},
    {"trained_betas": [0.01, 0.1, 0.3], "num_train_timesteps": 3},
    {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
]


@pytest.mark.parametrize("options", SCHEDULES)
@pytest.mark.parametrize("kind", ["DDPMScheduler", "DDIMScheduler"])
def test_the_process_is_theirs(kind: str, options: dict[str, Any]) -> None:
    """Up to the float32 of their table."""
    scheduler = getattr(diffusers, kind)(**options)
    s = scheduler_config.schedule_of(json.loads(scheduler.to_json_string()))
    torch.testing.assert_close(s.alpha_bar[1:], scheduler.alphas_cumprod.double(), rtol=2e-4, atol=1e-6)
    assert s.zero_snr == options.get("rescale_betas_zero_snr", False)


@pytest.mark.parametrize(
    "s",
    [
        NoiseSchedule.linear(1000, 1e-3, 0.03),
        NoiseSchedule.linear(20),
        NoiseSchedule.cosine(50),
        NoiseSchedule.log_snr_linear(1000),
        NoiseSchedule.cosine(50).rescaled_to_zero_snr(),
    ],
    ids=["linear", "linear, rescaled", "cosine", "log snr", "zero snr"],
)
def test_a_process_of_ours_there_and_back(s: NoiseSchedule) -> None:
    config = scheduler_config.config_of(s, Target.V, learned_variance=False)
    back = scheduler_config.schedule_of(config)
    torch.testing.assert_close(back.log_alpha_bar, s.log_alpha_bar, rtol=1e-13, atol=0)
    assert scheduler_config.target_of(config, learned_variance=False) == Target.V
    theirs = diffusers.DDPMScheduler.from_config(config)
    torch.testing.assert_close(theirs.alphas_cumprod.double(), s.alpha_bar[1:], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_class_name": "ScoreSdeVeScheduler"}, "_class_name is 'ScoreSdeVeScheduler', wanted one of DDPMScheduler,"),
        ({"beta_schedule": "sigmoid"}, "beta_schedule is 'sigmoid', wanted linear, scaled_linear or"),
        ({"prediction_type": "flow"}, "prediction_type is 'flow', wanted one of epsilon, v_prediction, sample"),
        ({"variance_type": "learned"}, "variance_type is 'learned', wanted learned_range"),
        ({"trained_betas": [0.1]}, "trained_betas is '1 numbers', wanted num_train_timesteps of them, 1000"),
    ],
)
def test_a_process_that_is_refused(config: dict[str, Any], message: str) -> None:
    full = {"_class_name": "DDPMScheduler"} | config
    with pytest.raises(ValueError, match=rf"scheduler_config\.json: {message}"):
        scheduler_config.target_of(full, learned_variance=bool(scheduler_config.schedule_of(full)))


def test_a_predicted_score_is_not_exported() -> None:
    with pytest.raises(ValueError, match="DDPMScheduler cannot hold this model: it predicts score, wanted one of"):
        scheduler_config.config_of(NoiseSchedule.linear(), Target.SCORE, learned_variance=False)
