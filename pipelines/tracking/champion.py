"""Who is champion: every promotion is a numbered record on its version, and the alias follows the last one.

MLflow moves an alias without asking where it stood, so two processes that both move it could each undo the other, and
each promote a version that was never compared with the other's. So a record comes first, then a look: whoever finds
that another record has taken its number, or that the alias has moved since the decision, takes its record back and
decides anew. Of two that do so at once at least one sees the other. Whoever moves the alias looks again afterwards,
until it stands at the last record.
"""

from __future__ import annotations

import json
import random
import secrets
import time
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
    """All of them in order. Of two with one number, where a process died before it took its own back, the one at which
    the alias stands is the last."""
    found: dict[tuple[int, bool, int], Promotion] = {}
    for version in known:
        for name in version.tags:
            if name.startswith(_TAG):
                with suppress(TypeError):  # else another program's
                    promotion = Promotion(version=version.number, **version.read(name))
                    found[promotion.number, CHAMPION in version.aliases, -version.number] = promotion
    return [found[key] for key in sorted(found)]


def to_beat(known: list[Version], version: Version) -> Version | None:
    """The champion; where the alias stands nowhere, the version among the others that was promoted last."""
    others = [other for other in known if other.number != version.number]
    last = {each.version for each in promotions(others)[-1:]}
    promoted = next((other for other in others if other.number in last), None)
    return at(known, CHAMPION) or promoted or at(others, PREVIOUS)


def promote(store: Store, known: list[Version], version: Version, by: str, reason: str) -> bool:
    """Make a version champion; False, with nothing changed, if another process promoted one at the same time.

    Args:
        known: the versions when this was decided.
    """
    before, earlier = at(known, CHAMPION), promotions(known)
    number = earlier[-1].number + 1 if earlier else 1
    record = {
        "number": number,
        "before": before.number if before else None,
        "by": by,
        "reason": reason,
        "when": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
    }
    tag = f"{_TAG}{number:04}.{secrets.token_hex(4)}"  # its own, also if two promote one version
    name = version.name
    store.client.set_model_version_tag(name, str(version.number), tag, json.dumps(record))
    if _alone(versions(store, name), version, number, before) and _follow(store, name) == version.number:
        return True
    store.client.delete_model_version_tag(name, str(version.number), tag)
    if (there := at(versions(store, name), CHAMPION)) is not None and there.number == version.number:
        _follow(store, name)  # another process had seen the record and moved the alias here
    time.sleep(random.uniform(0, 0.5))  # two that take theirs back at once do not come back at once
    return False


def _alone(now: list[Version], version: Version, number: int, before: Version | None) -> bool:
    """Whether nobody else promoted anything since the decision."""
    there = at(now, CHAMPION)
    moved = (there.number if there else None) != (before.number if before else None)
    return not moved and all(each.number < number or each.version == version.number for each in promotions(now))


def _follow(store: Store, name: str) -> int | None:
    """Bring the alias to where the last record says; the number of the champion then."""
    for _ in range(20):
        known = versions(store, name)
        last = [promotion.version for promotion in promotions(known)[-1:]]
        there = [version.number for version in known if CHAMPION in version.aliases]
        if there == last:
            return there[0] if there else None
        if not last:
            store.client.delete_registered_model_alias(name, CHAMPION)
            continue
        if there:
            store.client.set_registered_model_alias(name, PREVIOUS, str(there[0]))
        store.client.set_registered_model_alias(name, CHAMPION, str(last[0]))
    raise TrackingError(f"the alias {CHAMPION} of {name} is being moved by somebody else all the time: try again")
