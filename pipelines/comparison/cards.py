"""Whether two numbers were measured in the same way."""

from __future__ import annotations

from typing import Any

ABOUT_THE_MODEL = frozenset({"model_digest", "weights"})
"""Fields that say which model was measured, not how: the average of the weights is one, and the weights another."""
DRAWS = frozenset({"seed"})
"""Another seed is another draw of the same measurement: the numbers' errors hold it."""
ROUNDING = frozenset({"batch_size", "device", "compiled"})
"""These change no more than the last digits, far below every error; see `verdict.NEGLIGIBLE`."""
_IGNORED = ABOUT_THE_MODEL | DRAWS | ROUNDING | {"warnings"}


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


def field(card: dict[str, Any], name: str) -> Any:
    """The value of a field that `differing_fields` names; None where the card lacks it."""
    value: Any = card
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
