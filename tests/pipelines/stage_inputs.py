"""What the stages reference, sample and evaluate take: prepared digits and a model of them, made in a moment."""

from pathlib import Path

import torch

from diffusion.models import UNet
from diffusion.models.saved import save_model
from diffusion.process import NoiseSchedule
from pipelines.params import Params, load_params
from pipelines.prepare import prepare
from pipelines.project import workspace


def with_fixed_variance(params: Params) -> Params:
    """The same, trained on L_simple."""
    content = params.model_dump(by_alias=True)
    content["model"] |= {"learned_variance": False}
    content["train"] |= {"objective": "simple", "times": "uniform"}
    for stage in ("sample", "evaluate"):
        content[stage] |= {"variance": "small"}
    return Params.model_validate(content)


DIGITS = with_fixed_variance(load_params(workspace() / "presets" / "digits.yaml"))


def changed(section: str, **values: object) -> Params:
    """The parameters of the digits with some values of one section replaced, checked as a file would be."""
    content = DIGITS.model_dump(by_alias=True)
    content[section] |= values
    return Params.model_validate(content)


def prepared_digits(folder: Path) -> Path:
    """scikit-learn's digits as the prepare stage leaves them."""
    folder.mkdir(parents=True)
    prepare(DIGITS, folder)
    return folder


def saved_model(
    folder: Path,
    *,
    T: int = 20,
    classes: int | None = None,
    scale: float = 0.05,
    predicts: str = "eps",
    learned_variance: bool = False,
    null_label: bool = False,
) -> Path:
    """An untrained U-Net of 8x8 grey images with 17 levels, its last convolution of this scale; EMA and raw differ."""
    architecture = {"image_size": 8, "in_channels": 1, "channels": 8, "channel_multipliers": [1], "blocks": 1}
    architecture |= {"learned_variance": learned_variance, "null_label": null_label}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = UNet(**architecture, classes=classes).state_dict()
        weights = {name: value + torch.randn_like(value) * 0.1 for name, value in fresh.items()}  # no zero blocks
        weights["tail.weight"] *= scale / 0.1
    save_model(
        folder,
        architecture=architecture | {"classes": classes},
        ema=weights,
        raw={name: value * 0.9 for name, value in weights.items()},
        schedule=NoiseSchedule.log_snr_linear(T),
        levels=17,
        card={},
        predicts=predicts,
    )
    return folder
