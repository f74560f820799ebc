"""From a new measurement to the gate's decision, carried out: done by whoever comes next if a process dies between.

What is to be decided is a tag made together with the version or measurement, and removed when the decision stands
and the alias with it. So a version without that tag is never touched again, and the alias is people's to move.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from pipelines.comparison.gate import Champion, Decision, decide
from pipelines.errors import TrackingError
from pipelines.sections import GateParams
from pipelines.settings import Settings
from pipelines.tracking.champion import promote
from pipelines.tracking.measurements import measurements
from pipelines.tracking.registry import CHAMPION, Version, at, versions
from pipelines.tracking.store import Store

_PENDING = "gate.asked"
_DECISION = "gate"
_REASON = "gate.reason"


def pending(gate: GateParams) -> dict[str, str]:
    """The tag of a version that the gate must still judge."""
    return {_PENDING: gate.model_dump_json()}


def decision_of(version: Version) -> dict[str, Any]:
    """What the gate last said of it: `champion`, `against`, `reason`, `checks`; empty if it was never asked."""
    return version.read(_DECISION)


def judged(version: Version, known: list[Version], gate: GateParams, settings: Settings) -> Decision:
    """What the gate says of a version now, by its newest measurement, against the champion.

    Raises:
        TrackingError: the version was never measured.
    """
    current = at(known, CHAMPION)
    rival = None
    if current is not None:
        rival = Champion(current.number, measurements(current, settings))
    if not (measured := measurements(version, settings)):
        raise TrackingError(
            f"version {version.number} has no measurement: run `python -m pipelines.remeasure {version.uri}`"
        )
    return decide(measured[0], rival, gate)


def settle(store: Store, settings: Settings, name: str) -> list[Version]:
    """All versions, oldest first, after the gate judged those that wait for it."""
    while True:
        known = versions(store, name)
        waiting = next((version for version in known if _PENDING in version.tags), None)
        if waiting is None:
            return known
        _settle_one(store, settings, waiting, known)


def _settle_one(store: Store, settings: Settings, version: Version, known: list[Version]) -> None:
    client, name, number = store.client, version.name, str(version.number)
    if CHAMPION not in version.aliases:
        decision = judged(version, known, GateParams.model_validate(version.read(_PENDING)), settings)
        told = {**asdict(decision), "reason": decision.reason, "comparable": decision.comparable}
        told["measurable"] = decision.measurable
        client.set_model_version_tag(name, number, _DECISION, json.dumps(told))
        client.set_model_version_tag(name, number, _REASON, decision.reason)
        if decision.champion and not promote(store, known, version, "gate", decision.reason):
            return  # another one was promoted at the same time: judge again, against that one
    client.delete_model_version_tag(name, number, _PENDING)
