"""A small trained model and its file."""

from pathlib import Path
from typing import Any

import pytest
import torch

from diffusion.models import EMA, UNet
from diffusion.models.saved import save_model
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
