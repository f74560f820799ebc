"""Whether two numbers were measured in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

ABOUT_THE_MODEL = frozenset({"model_digest", "weights"})
"""Fields that say which model was measured, not how: the average of the weights is one, and the weights another."""
DRAWS = frozenset({"seed"})
"""Another seed is another draw of the same measurement: the numbers' errors hold it."""
ROUNDING = frozenset({"batch_size", "device", "compiled"})
"""These change no more than the last digits, far below every error; see `verdict.NEGLIGIBLE`."""
_IGNORED = ABOUT_THE_MODEL | DRAWS | ROUNDING | {"warnings"}
OF_THE_MODEL = {"times": "first_time", "classes": "guidance", "labels": None, "levels": None, "shape": None}
"""Fields that follow from the model, so that measuring again leaves them as they are -> the setting that some of them
follow from too: where that differs as well, measuring again may do."""

STAYS = "no measurement brings these together: {} follows from the model"
"""Said of them."""


def differing_fields(card: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names of the fields, with dots for cards within cards, that forbid to compare two measurements."""
    fields = []
    for name in sorted(set(card) | set(other)):
        ours, theirs = card.get(name), other.get(name)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            fields += [f"{name}.{inner}" for inner in differing_fields(ours, theirs)]
        elif name not in _IGNORED and ours != theirs:
            fields.append(name)
    return fields


def not_measurable(fields: Sequence[str]) -> list[str]:
    """Of the fields in which two cards differ, those that no measurement brings together."""
    there = {_last(name) for name in fields}
    return [name for name in fields if OF_THE_MODEL.get(_last(name), _last(name)) not in there]


def shared(card: dict[str, Any]) -> dict[str, Any]:
    """The part of a card that comparable measurements have in common."""
    kept = {name: value for name, value in card.items() if name not in _IGNORED}
    return {name: shared(value) if isinstance(value, dict) else value for name, value in kept.items()}


def own(card: dict[str, Any]) -> dict[str, Any]:
    """The rest of it, which may be another one for each model."""
    nested = {name: own(value) for name, value in card.items() if isinstance(value, dict)}
    return {name: value for name, value in card.items() if name in _IGNORED} | {k: v for k, v in nested.items() if v}


_DECISIVE = {
    **{"split": "the {} split", "images": "{} images", "times": "{} times", "seed": "seed {}"},
    **{"samples.count": "{} samples", "samples.sampler": "sampler {}", "samples.steps": "{} steps"},
    **{"samples.seed": "seed {}", "reference.images": "{} reference images", "reference.extractor": "extractor {}"},
}
"""What a person asks of a card first -> how it is told."""


def decisive(cards: Sequence[dict[str, Any]]) -> str:
    """On one line: how numbers that may be compared were measured; where their cards differ, all values."""
    told = []
    for name, words in _DECISIVE.items():
        values = dict.fromkeys(value for card in cards if (value := field(card, name)) is not None)
        if values:
            told.append(words.format(" or ".join(f"{v:,}" if isinstance(v, int) else str(v) for v in values)))
    return ", ".join(told)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def field(card: dict[str, Any], name: str) -> Any:
    """The value of a field that `differing_fields` names; None where the card lacks it."""
    value: Any = card
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
