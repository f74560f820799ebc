"""What samples are compared with: a network, the training images in its features, held-out ones, and their card."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from pipelines.errors import DataError
from pipelines.measure.extractor import Design, Extractor, extractor_from
from pipelines.measure.features import Features
from pipelines.measure.pretrained import PRETRAINED, Finder, Pretrained, find_pretrained
from pipelines.measure.scores import PAIRED, Against

_EXTRACTOR = "extractor.safetensors"
_STATISTICS = "statistics.safetensors"
_FEATURES = "features.npy"
_HELD_OUT = "held_out.npy"
CARD = "card.json"
_REMEDY = "run `dvc repro --force reference`"

HELD_OUT = 50_000
"""Held-out images, at most, whose features are kept."""


def metric_of(extractor: str) -> str:
    """What the Fréchet distance in these features is called."""
    return "fid" if extractor == "inception" else f"fd_{extractor}"


@dataclass(frozen=True)
class ReferenceCard:
    """What a distance to this reference depends on. Distances with different cards are not compared."""

    extractor: str
    """`classifier`, `random`, `inception` or `clip`."""
    extractor_digest: str
    """Content digest of its weights; SHA-256 of the file of one that was trained elsewhere."""
    design: Design | None
    """Of one that was made from the data set."""
    features: int
    """Their number."""
    val_accuracy: float | None
    """Of the classifier on the validation split; None without labels or without such a split."""
    data_digest: str
    shape: tuple[int, int, int]
    """(C, H, W) of one image."""
    split: str
    images: int
    """Whose moments the statistics are."""
    held_out: int
    """Images of the test split whose features are kept."""
    resize: str
    quantisation: str
    """What became of the grey levels."""
    device: str
    seed: int

    @property
    def metric(self) -> str:
        """The name of distances to this reference. FID means Inception's features."""
        return metric_of(self.extractor)

    def summary(self) -> str:
        """One line for a person."""
        facts = [f"{self.features} features of {self.images} images and of {self.held_out} held-out ones"]
        if self.val_accuracy is not None:
            facts.append(f"{self.val_accuracy:.1%} of the validation labels right")
        return f"reference by {self.extractor}: {', '.join(facts)}"


@dataclass(frozen=True, eq=False)
class Reference:
    """A network with what it makes of the training images and of held-out ones."""

    extractor: Extractor | Pretrained
    mean: NDArray[np.float64]
    """(d,), of all training images."""
    covariance: NDArray[np.float64]
    """(d, d)."""
    features: Features
    """(m, d), of the first training images, which are in no particular order; m is `PAIRED` at most."""
    held_out: Features
    """(h, d), of the first images of the test split; h is `HELD_OUT` at most."""
    card: ReferenceCard

    @property
    def against(self) -> Against:
        """The training images, to be compared with."""
        return Against(self.mean, self.covariance, self.features)


def write_reference(folder: Path, reference: Reference) -> None:
    """Write statistics.safetensors, features.npy, held_out.npy, card.json and, if it was made here, the extractor."""
    statistics = {"mean": torch.from_numpy(reference.mean), "covariance": torch.from_numpy(reference.covariance)}
    if isinstance(reference.extractor, Extractor):
        (folder / _EXTRACTOR).write_bytes(save(reference.extractor.state_dict()))
    (folder / _STATISTICS).write_bytes(save({name: value.contiguous() for name, value in statistics.items()}))
    np.save(folder / _FEATURES, reference.features, allow_pickle=False)
    np.save(folder / _HELD_OUT, reference.held_out, allow_pickle=False)
    (folder / CARD).write_text(json.dumps(asdict(reference.card), indent=2) + "\n", encoding="utf-8")


def read_reference(folder: Path, find: Finder = find_pretrained) -> Reference:
    """Read what `write_reference` wrote; features stay on the disk, as memory maps.

    Args:
        find: where networks that were trained elsewhere come from.

    Raises:
        DataError: a file is missing or damaged, or the weights are not those of the card.
        PipelineError: as `find`.
    """
    try:
        card = _card(json.loads((folder / CARD).read_text(encoding="utf-8")))
        statistics = {name: value.numpy() for name, value in load_file(folder / _STATISTICS).items()}
        reference = Reference(
            extractor=_extractor(folder, card, find),
            mean=statistics["mean"],
            covariance=statistics["covariance"],
            features=_features(folder / _FEATURES, min(PAIRED, card.images), card),
            held_out=_features(folder / _HELD_OUT, card.held_out, card),
            card=card,
        )
    except FileNotFoundError as error:
        raise DataError(
            f"no reference statistics: {error.filename or error} is missing; run `dvc repro reference`"
        ) from None
    except (ValueError, KeyError, TypeError, EOFError, SafetensorError) as error:
        raise DataError(f"{folder} is damaged or of another version ({error}); {_REMEDY}") from error
    if reference.extractor.digest != card.extractor_digest:
        raise DataError(f"the extractor in {folder} does not have the weights that {CARD} describes; {_REMEDY}")
    return reference


def _extractor(folder: Path, card: ReferenceCard, find: Finder) -> Extractor | Pretrained:
    for name in PRETRAINED:
        if card.extractor == name:
            return find(name)
    if card.design is None:
        raise ValueError(f"{CARD} does not describe the extractor")
    return extractor_from(card.design, load_file(folder / _EXTRACTOR))


def _features(path: Path, images: int, card: ReferenceCard) -> Features:
    found: Features = np.load(path, mmap_mode="r", allow_pickle=False)
    if found.dtype != np.float32 or found.shape != (images, card.features):
        raise ValueError(f"{path.name} holds {found.dtype} {found.shape}, not the features that {CARD} describes")
    return found


def _card(content: dict[str, Any]) -> ReferenceCard:
    design = content["design"] and Design(**content["design"])
    return ReferenceCard(**{**content, "design": design, "shape": tuple(content["shape"])})
