"""Whether a version becomes champion: a first, simple gate on the bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.tracking.registry import Version

ABOUT_THE_MODEL = ("model_digest",)
"""Fields of a card that say which model was measured, not how: two versions may differ in them."""


@dataclass(frozen=True)
class Decision:
    """The gate's answer with its reason and numbers, as stored on the version."""

    champion: bool
    reason: str


def decide(bits: dict[str, Any], current: Version | None, min_gain: float) -> Decision:
    """Compare a bound (`bits_per_dim` of metrics.json, with its card) with the champion's.

    Bounds with different cards are not compared: the champion stays.
    """
    if current is None:
        return Decision(True, "the first version")
    theirs = current.evaluation.get("bits_per_dim")
    if theirs is None:
        return Decision(False, f"version {current.number} is champion and has no bound to compare with")
    if fields := differing_fields(bits["card"], theirs["card"]):
        what = f"measured with another {', '.join(fields)}"
        return Decision(False, f"not comparable with champion {current.number}: {what}")
    gain = theirs["total"] - bits["total"]
    numbers = f"{bits['total']:.4f} against {theirs['total']:.4f} bits/dim of champion {current.number}"
    if gain > min_gain:
        return Decision(True, f"better by {gain:.4f}: {numbers}")
    wanted = f"by more than {min_gain}" if min_gain else "at all"
    return Decision(False, f"not better {wanted}: {numbers}")


def differing_fields(card: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names of the fields, with dots for cards within cards, in which two measurements differ."""
    fields = []
    for name in sorted(set(card) | set(other)):
        ours, theirs = card.get(name), other.get(name)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            fields += [f"{name}.{inner}" for inner in differing_fields(ours, theirs)]
        elif name not in ABOUT_THE_MODEL and ours != theirs:
            fields.append(name)
    return fields
