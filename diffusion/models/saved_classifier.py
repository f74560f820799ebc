"""A trained classifier as a folder: classifier.safetensors (the numbers) and classifier.json (what they are).

As with a model's files, every bit is under a SHA-256, and saving the same classifier twice gives the same bytes.

classifier.NAME            for each NAME of the network's state_dict
schedule.log_alpha_bar     (T + 1,) float64
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from diffusion.models.classifier import Classifier
from diffusion.models.contents import SCHEDULE, Shapes, check_finite, check_shapes, plain, shapes_of
from diffusion.models.description import json_card
from diffusion.models.digest import content_digest
from diffusion.models.saved import SavedModel
from diffusion.models.sealed import check_intact, file_sha256, read_sealed, write_sealed
from diffusion.process import NoiseSchedule

_FORMAT_VERSION = 1
_TENSORS, _DESCRIPTION = "classifier.safetensors", "classifier.json"
_FIELDS = ("T", "architecture", "card", "description_sha256", "digest", "format_version", "levels", "sha256")
_PREFIX = "classifier."


@dataclass(frozen=True)
class SavedClassifier:
    """A classifier as read from its folder."""

    net: Classifier
    """In float32, in eval mode, without gradients of its weights."""
    schedule: NoiseSchedule
    """The process whose noise it was trained on; its tables stay on the CPU."""
    levels: int
    """Number of values a pixel of the data can take."""
    digest: str
    """Content digest of all tensors in the file."""
    card: dict[str, Any]
    """How it came about."""

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.net.classes

    def check_fits(self, model: SavedModel) -> None:
        """Refuse to guide a model whose x_t are not those that this classifier was trained on.

        Raises:
            ValueError: says what differs.
        """
        pairs = {
            "images shaped": (self.net.architecture.shape, model.shape),
            "grey levels": (self.levels, model.levels),
            "classes": (self.classes, model.classes or self.classes),
            "steps of noise": (self.schedule.T, model.schedule.T),
        }
        for what, (own, others) in pairs.items():
            if own != others:
                raise ValueError(
                    f"the classifier does not fit the model: {what} {own}, and the model's are {others}; {_REMEDY}"
                )
        if not torch.equal(self.schedule.log_alpha_bar, model.schedule.log_alpha_bar):
            raise ValueError(f"the classifier was trained on another noise schedule than the model; {_REMEDY}")


_REMEDY = "train it on the same images and the same process"


def save_classifier(
    folder: Path, net: Classifier, schedule: NoiseSchedule, levels: int, card: Mapping[str, Any]
) -> str:
    """Write a classifier and return its content digest; classifier.json last.

    Raises:
        ValueError: a weight is not finite, or the card is not JSON.
    """
    weights = {f"{_PREFIX}{name}": value for name, value in net.state_dict().items()}
    check_finite(weights)
    tensors = plain(weights | {SCHEDULE: schedule.log_alpha_bar})
    digest = content_digest(tensors)
    values = {
        "format_version": _FORMAT_VERSION,
        "architecture": net.arguments(),
        "levels": levels,
        "T": schedule.T,
        "digest": digest,
        "card": json_card(card),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _DESCRIPTION).unlink(missing_ok=True)
    (folder / _TENSORS).write_bytes(save(tensors))
    write_sealed(folder / _DESCRIPTION, values | {"sha256": file_sha256(folder / _TENSORS)})
    return digest


def load_classifier(folder: Path, device: torch.device | str = "cpu") -> SavedClassifier:
    """Read a classifier, verified, without touching torch's random state.

    Raises:
        ValueError: a file is missing, damaged, of another format, or does not fit the network it names.
    """
    values = read_sealed(folder / _DESCRIPTION, _FORMAT_VERSION, _FIELDS)
    path = folder / _TENSORS
    check_intact(path, values["sha256"], _DESCRIPTION)
    tensors = load_file(path)
    with torch.device("meta"):
        net = Classifier(**values["architecture"])
    check_shapes(_shapes(net, values["T"]), shapes_of(tensors), str(path))
    state = {name.removeprefix(_PREFIX): value for name, value in tensors.items() if name != SCHEDULE}
    net.load_state_dict({name: value.to(torch.float32, copy=True) for name, value in state.items()}, assign=True)
    return SavedClassifier(
        net=net.eval().requires_grad_(False).to(device),
        schedule=NoiseSchedule.from_log_alpha_bar(tensors[SCHEDULE].clone()),
        levels=values["levels"],
        digest=values["digest"],
        card=values["card"],
    )


def _shapes(net: Classifier, T: int) -> Shapes:
    state: dict[str, Tensor] = net.state_dict()
    return {f"{_PREFIX}{name}": shape for name, shape in shapes_of(state).items()} | {SCHEDULE: (T + 1,)}
