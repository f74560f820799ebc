"""Who is champion: every promotion is a numbered record on its version, and the alias follows the last one.

MLflow moves an alias without asking where it stood, so two processes that both move it could each undo the other. A
record with its number, made before the alias is moved, settles that: whoever moves the alias looks again afterwards,
and moves it to the version with the highest number, so that all end at the same one.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from pipelines.errors import TrackingError
from pipelines.tracking.registry import CHAMPION, PREVIOUS, Version, at, versions
from pipelines.tracking.store import Store

_TAG = "promotion."


@dataclass(frozen=True)
class Promotion:
    """One move of the alias."""

    number: int
    """Of the promotion, from 1."""
    version: int
    before: int | None
    """The champion until then."""
    by: str
    """`gate` or `person`."""
    reason: str
    when: str
    """UTC."""


def promotions(known: list[Version]) -> list[Promotion]:
    """All of them in order; of two with the same number the one that counts, that of the older version, is the last."""
    found = []
    for version in known:
        for name in version.tags:
            if name.startswith(_TAG):
                with suppress(TypeError):  # else another program's
                    found.append(Promotion(version=version.number, **version.read(name)))
    return sorted(found, key=lambda promotion: (promotion.number, -promotion.version))


def to_beat(known: list[Version], version: Version) -> Version | None:
    """The champion; where the alias stands nowhere, the version among the others that was promoted last."""
    others = [other for other in known if other.number != version.number]
    last = {each.version for each in promotions(others)[-1:]}
    promoted = next((other for other in others if other.number in last), None)
    return at(known, CHAMPION) or promoted or at(others, PREVIOUS)


def promote(store: Store, known: list[Version], version: Version, by: str, reason: str) -> bool:
    """Make a version champion; False if another process promoted another one at the same time.

    Args:
        known: the versions when this was decided.
    """
    before, earlier = at(known, CHAMPION), promotions(known)
    record = {
        "number": earlier[-1].number + 1 if earlier else 1,
        "before": before.number if before else None,
        "by": by,
        "reason": reason,
        "when": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
    }
    store.client.set_model_version_tag(
        version.name, str(version.number), f"{_TAG}{record['number']:04}", json.dumps(record)
    )
    return _follow(store, version.name).number == version.number


def _follow(store: Store, name: str) -> Version:
    """Bring the alias to where the last record says; the champion then."""
    for _ in range(20):
        known = versions(store, name)
        last = promotions(known)[-1]
        there = at(known, CHAMPION)
        if there is not None and there.number == last.version:
            return there
        if there is not None:
            store.client.set_registered_model_alias(name, PREVIOUS, str(there.number))
        store.client.set_registered_model_alias(name, CHAMPION, str(last.version))
    raise TrackingError(f"the alias {CHAMPION} of {name} is being moved by somebody else all the time: try again")
