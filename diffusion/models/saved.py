"""A trained model as a folder: model.safetensors (the numbers) and model.json (what they are). No pickle.

Every bit of both files is under a SHA-256, and saving the same model twice gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from diffusion.models.architecture import Architecture
from diffusion.models.contents import (
    SCHEDULE,
    check_finite,
    check_shapes,
    contents,
    empty_network,
    shapes_of,
    shapes_of_model,
)
from diffusion.models.description import Description, Digests, forget, json_card
from diffusion.models.digest import content_digest
from diffusion.models.sealed import check_intact, file_sha256
from diffusion.models.unet import UNet
from diffusion.process import NoiseSchedule, Target

__all__ = ["SavedModel", "content_digest", "load_model", "save_model"]

_TENSORS = "model.safetensors"


@dataclass(frozen=True)
class SavedModel:
    """A model as read from its folder."""

    net: UNet
    """The network in float32, in eval mode, without gradients."""
    schedule: NoiseSchedule
    """The process it was trained on; its tables stay on the CPU."""
    levels: int
    """Number of values a pixel of the data can take."""
    shape: tuple[int, int, int]
    """(C, H, W) of one image."""
    classes: int | None
    """Number of class labels; None for a network without labels."""
    predicts: Target
    """What the network predicts."""
    learned_variance: bool
    """Whether it also says where each pixel's variance lies; it then returns 2 C channels."""
    digest: str
    """Content digest of all tensors in the file, whichever weights were asked for."""
    card: dict[str, Any]
    """How the model came about, as given to `save_model`."""
    null_label: bool = False
    """Whether the label `classes` means that the class is not told."""


def save_model(
    folder: Path,
    *,
    architecture: Mapping[str, Any],
    ema: Mapping[str, Tensor],
    raw: Mapping[str, Tensor],
    schedule: NoiseSchedule,
    levels: int,
    card: Mapping[str, Any],
    predicts: Target | str = Target.EPS,
) -> str:
    """Write a model and return its content digest.

    model.json is written last: a folder without it holds no model.

    Args:
        folder: made if it is missing; a model already there is replaced.
        architecture: the keyword arguments of `UNet`.
        ema: the average of the weights, named as in `UNet.state_dict()`.
        raw: the weights themselves, likewise.
        schedule: the full process, times 1..T.
        levels: number of values a pixel of the data can take.
        card: how the model came about; JSON values.
        predicts: what the network predicts.

    Raises:
        ValueError: the tensors do not fit the architecture or are not finite, the schedule is respaced, the levels
            are not in 2..256, or the card is not JSON.
    """
    if not torch.equal(schedule.time.cpu(), torch.arange(schedule.T + 1)):
        raise ValueError("a respaced schedule cannot be saved with a model: give the full process, times 1..T")
    if not 2 <= levels <= 256:
        raise ValueError(f"levels must lie in 2..256, got {levels}: images are kept in bytes")
    plain_card = json_card(card)
    arch = Architecture.from_json(architecture)
    tensors = contents(ema, raw, schedule.log_alpha_bar)
    check_shapes(shapes_of_model(arch, schedule.T), shapes_of(tensors), "saving a model")
    check_finite({name: value for name, value in tensors.items() if name != SCHEDULE})  # at zero SNR that one is not

    folder.mkdir(parents=True, exist_ok=True)
    forget(folder)
    (folder / _TENSORS).write_bytes(save(tensors))  # not save_file, which leaves a file that only its owner can read
    digests = Digests(content_digest(ema), content_digest(raw), content_digest(tensors))
    sha256 = file_sha256(folder / _TENSORS)
    Description(arch, levels, schedule.T, str(Target(predicts)), digests, sha256, plain_card).write(folder)
    return digests.content


def load_model(folder: Path, weights: Literal["ema", "raw"] = "ema", device: torch.device | str = "cpu") -> SavedModel:
    """Read a model, verified, without touching torch's random state.

    Args:
        folder: as written by `save_model`.
        weights: the average, or the weights themselves.
        device: of the network.

    Raises:
        ValueError: a file is missing, damaged, of another format, or does not fit the architecture it names.
    """
    if weights not in ("ema", "raw"):
        raise ValueError(f'weights must be "ema" or "raw", got {weights!r}')
    description = Description.read(folder)
    path = folder / _TENSORS
    check_intact(path, description.sha256, "model.json")
    with safe_open(path, framework="pt") as file:
        got = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)
        check_shapes(shapes_of_model(description.architecture, description.T), got, str(path))
        prefix = f"{weights}."
        state = {name.removeprefix(prefix): file.get_tensor(name) for name in got if name.startswith(prefix)}
        schedule = NoiseSchedule.from_log_alpha_bar(file.get_tensor(SCHEDULE).clone())
    return SavedModel(
        net=_network(description.architecture, state).to(device),
        schedule=schedule,
        levels=description.levels,
        shape=description.architecture.shape,
        classes=description.architecture.classes,
        null_label=description.architecture.null_label,
        predicts=Target(description.predicts),
        learned_variance=description.architecture.learned_variance,
        digest=description.digests.content,
        card=description.card,
    )


def _network(architecture: Architecture, state: Mapping[str, Tensor]) -> UNet:
    """The network around these weights: copied, as tensors of an open file would change or vanish with it."""
    net = empty_network(architecture)
    net.load_state_dict({name: value.to(torch.float32, copy=True) for name, value in state.items()}, assign=True)
    return net.eval().requires_grad_(False)
