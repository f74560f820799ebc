"""model.json: what model.safetensors holds and how to build the network around it. JSON, read by people too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusion.models.architecture import Architecture
from diffusion.models.sealed import json_text, read_sealed, write_sealed

FORMAT_VERSION = 2

_NAME = "model.json"
_FIELDS = (
    "T",
    "architecture",
    "card",
    "description_sha256",
    "digests",
    "format_version",
    "levels",
    "predicts",
    "sha256",
    "shape",
)


@dataclass(frozen=True)
class Digests:
    """Content digests (`content_digest`), hex."""

    ema: str
    """Of the average's tensors, named as in the network."""
    raw: str
    """Of the weights' tensors, named as in the network."""
    content: str
    """Of all tensors in the file: both of the above and the schedule. This one is the model's."""


@dataclass(frozen=True)
class Description:
    """The content of model.json.

    The file ends with the SHA-256 of all the rest of it, so that a changed number of levels is noticed as surely as a
    changed weight.
    """

    architecture: Architecture
    """The network."""
    levels: int
    """Number of values a pixel of the data can take, 2 to 256: 17 for the digits, 256 for photographs."""
    T: int
    """Number of steps of the process."""
    predicts: str
    """What the network predicts: a value of `diffusion.process.Target`."""
    digests: Digests
    """Which weights these are."""
    sha256: str
    """Of the file model.safetensors, hex."""
    card: dict[str, Any]
    """How the model came about, as from `json_card`."""

    def write(self, folder: Path) -> None:
        """Write model.json; the same description gives the same bytes."""
        values = {
            "format_version": FORMAT_VERSION,
            "architecture": self.architecture.to_json(),
            "shape": list(self.architecture.shape),
            "levels": self.levels,
            "T": self.T,
            "predicts": self.predicts,
            "digests": vars(self.digests),
            "sha256": self.sha256,
            "card": self.card,
        }
        write_sealed(folder / _NAME, values)

    @classmethod
    def read(cls, folder: Path) -> Description:
        """Read and verify model.json.

        Raises:
            ValueError: it is missing, damaged or of another format.
        """
        values = read_sealed(folder / _NAME, FORMAT_VERSION, _FIELDS)
        return cls(
            architecture=Architecture.from_json(values["architecture"]),
            levels=values["levels"],
            T=values["T"],
            predicts=values["predicts"],
            digests=Digests(**values["digests"]),
            sha256=values["sha256"],
            card=values["card"],
        )


def forget(folder: Path) -> None:
    """Take model.json away, so that a folder whose tensors are being replaced holds no model meanwhile."""
    (folder / _NAME).unlink(missing_ok=True)


def json_card(card: Mapping[str, Any]) -> dict[str, Any]:
    """The card as it comes back from JSON: tuples as lists, all keys as text.

    Raises:
        ValueError: it holds something else than finite numbers, text, lists and objects.
    """
    try:
        values: dict[str, Any] = json.loads(json_text(dict(card)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the card must hold finite numbers, text, lists and objects only: {error}") from None
    return values
