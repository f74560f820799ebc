"""Folders that diffusers writes for its UNet2DModel, alone or in a DDPMPipeline: read and written without it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from diffusion.interop import scheduler_config, unet_config
from diffusion.interop.names import TOLD_TIME, renamed, to_ours, to_theirs
from diffusion.models.architecture import Architecture
from diffusion.models.contents import check_finite, check_shapes, empty_network, plain, shapes_of
from diffusion.models.saved import SavedModel
from diffusion.models.sealed import file_sha256
from diffusion.process import NoiseSchedule, Target
from diffusion.process.parameterization import check_target

_WEIGHTS = "diffusion_pytorch_model.safetensors"
_EXACT = "told_t.safetensors"
"""The layer that is told the time as it was before the shift, which rounds it; diffusers does not look at it."""
_PIPELINE = "model_index.json"
_PIPELINES = ("DDPMPipeline", "DDIMPipeline", "PNDMPipeline")


@dataclass(frozen=True, eq=False)
class Imported:
    """A model of another library in this one's form, ready for `save_model`."""

    architecture: Architecture
    weights: dict[str, Tensor]
    """Named as in `UNet.state_dict()`, float32."""
    schedule: NoiseSchedule
    predicts: Target
    card: dict[str, Any]
    """Where it comes from: both configs and the SHA-256 of the weights' file."""


def from_diffusers(folder: Path, *, sha256: str | None = None) -> Imported:
    """Read a UNet2DModel with its scheduler.

    Both layouts are read: all files in one folder, as of the first public checkpoints, and the sub-folders unet and
    scheduler. Their network is told t - 1; ours is told t and returns the same, up to rounding.

    Args:
        folder: as diffusers' `save_pretrained` or a download leaves it.
        sha256: of the weights' file, if it is known, in hex; another file is refused. The format itself notices a cut
            file, but no changed weight.

    Raises:
        ValueError: a file is missing, damaged or another one, or our network cannot be this one. The message names
            file and field.
    """
    _check_pipeline(folder)
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    config = _json(unet / unet_config.FILE)
    scheduler = _json(_scheduler_file(folder))
    full = unet_config.complete(config)
    architecture = unet_config.architecture_of(full)
    schedule = scheduler_config.schedule_of(scheduler)
    predicts = scheduler_config.target_of(scheduler, learned_variance=architecture.learned_variance)
    check_target(schedule, predicts)
    path = _weights_file(unet)
    found = file_sha256(path)
    if sha256 is not None and found != sha256.lower():
        raise ValueError(f"{path} is not the file that was asked for: its SHA-256 is {found}, wanted {sha256}")
    weights = _weights(path, architecture, cosines_first=full["flip_sin_to_cos"])
    source = {"format": "diffusers", "file": path.name, "sha256": found, "config": config, "scheduler": scheduler}
    return Imported(architecture, weights, schedule, predicts, {"imported": source})


def to_diffusers(saved: SavedModel, folder: Path) -> None:
    """Write a model as a DDPMPipeline that diffusers' `from_pretrained` reads.

    Args:
        saved: with the weights that are wanted.
        folder: made if it is missing.

    Raises:
        ValueError: UNet2DModel or DDPMScheduler have no place for something of this model; nothing is written.
    """
    config = unet_config.config_of(saved.net.architecture)
    scheduler = scheduler_config.config_of(saved.schedule, saved.predicts, learned_variance=saved.learned_variance)
    pipeline = {
        "_class_name": "DDPMPipeline",
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "unet": ["diffusers", config["_class_name"]],
    }
    for name in ("unet", "scheduler"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    tensors = plain(saved.net.state_dict())
    (folder / "unet" / _WEIGHTS).write_bytes(save(plain(to_theirs(tensors)), {"format": "pt"}))
    (folder / "unet" / _EXACT).write_bytes(save({TOLD_TIME: tensors[TOLD_TIME]}))
    for path, values in (
        (folder / "unet" / unet_config.FILE, config),
        (folder / "scheduler" / scheduler_config.FILE, scheduler),
        (folder / _PIPELINE, pipeline),
    ):
        path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _check_pipeline(folder: Path) -> None:
    """Refuse a pipeline in which the U-Net is not all that there is, as one that works in an autoencoder's codes."""
    if not (folder / _PIPELINE).is_file():
        return
    if (kind := _json(folder / _PIPELINE).get("_class_name")) not in _PIPELINES:
        raise ValueError(f"{folder / _PIPELINE}: _class_name is {kind!r}, wanted one of {', '.join(_PIPELINES)}")


def _scheduler_file(folder: Path) -> Path:
    """Beside the weights, or in the folder of its own."""
    flat, apart = folder / scheduler_config.FILE, folder / "scheduler" / scheduler_config.FILE
    return flat if flat.is_file() else apart


def _weights_file(folder: Path) -> Path:
    path = folder / _WEIGHTS
    if path.is_file():
        return path
    others = sorted(file.name for file in folder.glob("diffusion_pytorch_model*"))
    if any(name.endswith(".bin") for name in others):
        raise ValueError(
            f"{folder} has the weights in {', '.join(others)}: a .bin is a pickle, a program that reading would run. "
            f"Get {_WEIGHTS}, or let diffusers write it: UNet2DModel.from_pretrained(FOLDER).save_pretrained(NEW)"
        )
    there = f"; there is {', '.join(others)}: put the whole weights, in one file, under that name" if others else ""
    raise ValueError(f"{path} is missing{there}")


def _weights(path: Path, architecture: Architecture, *, cosines_first: bool) -> dict[str, Tensor]:
    empty = empty_network(architecture).state_dict()
    theirs = {renamed(name): value for name, value in _tensors(path).items()}
    check_shapes(shapes_of(to_theirs(empty)), shapes_of(theirs), str(path))
    if wrong := [name for name, value in theirs.items() if not value.is_floating_point()]:
        raise ValueError(f"{path}: {wrong[0]} is {theirs[wrong[0]].dtype}, wanted floating-point numbers")
    check_finite(theirs)
    ours = to_ours(theirs, empty, cosines_first=cosines_first)
    exact = path.with_name(_EXACT)
    return _unrounded(ours, _tensors(exact), theirs) if exact.is_file() else ours


def _unrounded(ours: dict[str, Tensor], exact: dict[str, Tensor], theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """With the layer as it was, if these are still the weights that were made from it."""
    candidate = ours | exact
    if shapes_of(candidate) != shapes_of(ours):
        return ours
    same = all(torch.equal(value, theirs[name].float()) for name, value in to_theirs(candidate).items())
    return candidate if same else ours


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load(path.read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{path} is cut or damaged ({error}): get it again") from None
    return tensors


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: get all files of the model, its scheduler's too") from None
    except ValueError as error:  # not UTF-8, or not JSON
        raise ValueError(f"{path} is damaged ({error}): get it again") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold an object, got {type(values).__name__}")
    return values
