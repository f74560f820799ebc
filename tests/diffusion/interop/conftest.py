"""Networks of both libraries, small ones (128 channels are the fewest that both normalise in the same groups)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from diffusion.interop import Imported
from diffusion.models import UNet
from diffusion.models.contents import empty_network
from diffusion.models.saved import SavedModel, load_model, save_model
from diffusion.process import NoiseSchedule

SMALL: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": [128, 128],
    "layers_per_block": 1,
    "down_block_types": ["AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D"],
    "attention_head_dim": None,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
}
"""As google/ddpm-cifar10-32 in all that the small network can have of it."""


def theirs(folder: Path, scheduler: dict[str, Any] | None = None, **config: Any) -> diffusers.UNet2DModel:
    """A network of diffusers with random weights, written flat as the first public checkpoints were."""
    torch.manual_seed(0)
    net = diffusers.UNet2DModel(**{**SMALL, **config}).eval()
    net.save_pretrained(folder)
    diffusers.DDPMScheduler(**(scheduler or {})).save_pretrained(folder)
    return net


def network(found: Imported) -> UNet:
    """Ours around imported weights."""
    net = empty_network(found.architecture)
    net.load_state_dict(found.weights, assign=True)
    return net.eval()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """More are no faster on networks this small, and much slower where others use the cores, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., SavedModel]:
    """A model of ours whose weights are all drawn at random, also those that start at zero."""

    def make(schedule: NoiseSchedule | None = None, predicts: str = "eps", **architecture: Any) -> SavedModel:
        torch.manual_seed(1)
        small: dict[str, Any] = {"image_size": 8, "in_channels": 3, "channels": 128, "channel_multipliers": (1, 1)}
        net = UNet(**{**small, "blocks": 1, "attention_resolutions": (8,), **architecture})
        for parameter in net.parameters():
            parameter.data += 0.03 * torch.randn_like(parameter)
        weights = net.state_dict()
        save_model(
            tmp_path / "ours",
            architecture=net.architecture.to_json(),
            ema=weights,
            raw=weights,
            schedule=schedule or NoiseSchedule.linear(),
            levels=256,
            card={},
            predicts=predicts,
        )
        return load_model(tmp_path / "ours")

    return make
