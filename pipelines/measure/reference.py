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
from pipelines.measure.scores import PAIRED, Against

_EXTRACTOR = "extractor.safetensors"
_STATISTICS = "statistics.safetensors"
_FEATURES = "features.npy"
_HELD_OUT = "held_out.npy"
CARD = "card.json"
_REMEDY = "run `dvc repro --force reference`"

HELD_OUT = 50_000
"""Held-out images, at most, whose features are kept."""


@dataclass(frozen=True)
class ReferenceCard:
    """What a distance to this reference depends on. Distances with different cards are not compared."""

    extractor: str
    """`classifier` or `random`."""
    extractor_digest: str
    """Content digest of its weights."""
    design: Design
    val_accuracy: float | None
    """Of the classifier on the validation split; None without labels or without such a split."""
    data_digest: str
    split: str
    images: int
    """Whose moments the statistics are."""
    held_out: int
    """Images of the test split whose features are kept."""
    resize: str
    quantisation: str
    """What became of the grey levels."""
    seed: int

    @property
    def metric(self) -> str:
        """The name of distances to this reference; never FID, which means Inception's features."""
        return f"fd_{self.extractor}"

    def summary(self) -> str:
        """One line for a person."""
        facts = [f"{self.design.features} features of {self.images} images and of {self.held_out} held-out ones"]
        if self.val_accuracy is not None:
            facts.append(f"{self.val_accuracy:.1%} of the validation labels right")
        return f"reference by {self.extractor}: {', '.join(facts)}"


@dataclass(frozen=True, eq=False)
class Reference:
    """A network with what it makes of the training images and of held-out ones."""

    extractor: Extractor
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
    """Write extractor.safetensors, statistics.safetensors, features.npy, held_out.npy and card.json."""
    statistics = {"mean": torch.from_numpy(reference.mean), "covariance": torch.from_numpy(reference.covariance)}
    (folder / _EXTRACTOR).write_bytes(save(reference.extractor.state_dict()))
    (folder / _STATISTICS).write_bytes(save({name: value.contiguous() for name, value in statistics.items()}))
    np.save(folder / _FEATURES, reference.features, allow_pickle=False)
    np.save(folder / _HELD_OUT, reference.held_out, allow_pickle=False)
    (folder / CARD).write_text(json.dumps(asdict(reference.card), indent=2) + "\n", encoding="utf-8")


def read_reference(folder: Path) -> Reference:
    """Read what `write_reference` wrote; features stay on the disk, as memory maps.

    Raises:
        DataError: a file is missing or damaged, or the weights are not those of the card.
    """
    try:
        card = _card(json.loads((folder / CARD).read_text(encoding="utf-8")))
        statistics = {name: value.numpy() for name, value in load_file(folder / _STATISTICS).items()}
        reference = Reference(
            extractor=extractor_from(card.design, load_file(folder / _EXTRACTOR)),
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
        raise DataError(f"{folder / _EXTRACTOR} does not hold the weights that {CARD} describes; {_REMEDY}")
    return reference


def _features(path: Path, images: int, card: ReferenceCard) -> Features:
    found: Features = np.load(path, mmap_mode="r", allow_pickle=False)
    if (found.dtype, found.shape) != (np.float32, (images, card.design.features)):
        raise ValueError(f"{path.name} holds {found.dtype} {found.shape}, not the features that {CARD} describes")
    return found


def _card(content: dict[str, Any]) -> ReferenceCard:
    return ReferenceCard(**{**content, "design": Design(**content["design"])})
