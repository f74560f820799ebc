"""What samples are compared with: an extractor, the moments of the training images in its features, and their card."""

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

from diffusion.evaluation import Moments, frechet_distance
from pipelines.errors import DataError
from pipelines.measure.extractor import Design, Extractor, extractor_from

_EXTRACTOR = "extractor.safetensors"
_STATISTICS = "statistics.safetensors"
CARD = "card.json"
_REMEDY = "run `dvc repro --force reference`"


@dataclass(frozen=True)
class Floor:
    """The distance that real images have which the statistics were not taken from: samples cannot be expected below."""

    split: str
    images: int
    """The fewer, the larger the distance; so it is a floor for as many samples."""
    value: float


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
    resize: str
    quantisation: str
    """What became of the grey levels."""
    seed: int
    floor: Floor | None
    """None if the test split has too few images."""

    @property
    def metric(self) -> str:
        """The name of distances to this reference; never FID, which means Inception's features."""
        return f"fd_{self.extractor}"

    def summary(self) -> str:
        """One line for a person."""
        facts = [f"{self.design.features} features of {self.images} images"]
        if self.val_accuracy is not None:
            facts.append(f"{self.val_accuracy:.1%} of the validation labels right")
        if self.floor:
            facts.append(f"{self.floor.images} held-out images are at {self.metric} {self.floor.value:.3g}")
        return f"reference by {self.extractor}: {', '.join(facts)}"


@dataclass(frozen=True, eq=False)
class Reference:
    """An extractor with the statistics of the training images."""

    extractor: Extractor
    mean: NDArray[np.float64]
    """(d,)."""
    covariance: NDArray[np.float64]
    """(d, d)."""
    card: ReferenceCard

    def distance(self, moments: Moments) -> float:
        """The Fréchet distance of images with these moments to the training images."""
        return frechet_distance(self.mean, self.covariance, moments.mean, moments.covariance)


def write_reference(folder: Path, reference: Reference) -> None:
    """Write extractor.safetensors, statistics.safetensors and card.json."""
    statistics = {"mean": torch.from_numpy(reference.mean), "covariance": torch.from_numpy(reference.covariance)}
    (folder / _EXTRACTOR).write_bytes(save(reference.extractor.state_dict()))
    (folder / _STATISTICS).write_bytes(save({name: value.contiguous() for name, value in statistics.items()}))
    (folder / CARD).write_text(json.dumps(asdict(reference.card), indent=2) + "\n", encoding="utf-8")


def read_reference(folder: Path) -> Reference:
    """Read what `write_reference` wrote.

    Raises:
        DataError: a file is missing or damaged, or the weights are not those of the card.
    """
    try:
        card = _card(json.loads((folder / CARD).read_text(encoding="utf-8")))
        extractor = extractor_from(card.design, load_file(folder / _EXTRACTOR))
        statistics = {name: value.numpy() for name, value in load_file(folder / _STATISTICS).items()}
        reference = Reference(extractor, statistics["mean"], statistics["covariance"], card)
    except FileNotFoundError as error:
        raise DataError(
            f"no reference statistics: {error.filename or error} is missing; run `dvc repro reference`"
        ) from None
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise DataError(f"{folder} is damaged or of another version ({error}); {_REMEDY}") from error
    if extractor.digest != card.extractor_digest:
        raise DataError(f"{folder / _EXTRACTOR} does not hold the weights that {CARD} describes; {_REMEDY}")
    return reference


def _card(content: dict[str, Any]) -> ReferenceCard:
    floor = content["floor"]
    parts = {"design": Design(**content["design"]), "floor": Floor(**floor) if floor else None}
    return ReferenceCard(**{**content, **parts})
