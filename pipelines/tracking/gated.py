"""From a new measurement to the gate's decision, carried out: done by whoever comes next if a process dies between.

What is to be decided is a tag made together with the version or measurement, and removed when the decision stands
and the alias with it. So a version without that tag is never touched again, and the alias is people's to move.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from pipelines.comparison.gate import Champion, Decision, decide
from pipelines.errors import TrackingError
from pipelines.sections import GateParams
from pipelines.settings import Settings
from pipelines.tracking.champion import promote, to_beat
from pipelines.tracking.measurements import measurements
from pipelines.tracking.registry import CHAMPION, Version, find, versions
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
    """What the gate says of a version now, by its newest measurement, against the champion or whoever was it last.

    Raises:
        TrackingError: the version was never measured.
    """
    current = to_beat(known, version)
    rival = None
    if current is not None:
        rival = Champion(current.number, measurements(current, settings), former=CHAMPION not in current.aliases)
    if not (measured := measurements(version, settings)):
        raise TrackingError(
            f"version {version.number} has no measurement: run `python -m pipelines.remeasure {version.uri}`"
        )
    return decide(measured[0], rival, gate, first=not any(_precedes(other, version) for other in known))


def _precedes(other: Version, version: Version) -> bool:
    """Whether the other could have been champion before: it is older, or the gate is done with it."""
    return other.number < version.number or (other.number != version.number and _PENDING not in other.tags)


def settle(store: Store, settings: Settings, name: str, own: int) -> list[Version]:
    """All versions, oldest first, after the gate judged those that wait for it.

    Another's that cannot be judged now is told of and left waiting, so that it keeps nobody from registering his.

    Args:
        own: the version for whose sake this is done.

    Raises:
        TrackingError: that one cannot be judged.
    """
    left: set[int] = set()
    while True:
        known = versions(store, name)
        waiting = next((each for each in known if _PENDING in each.tags and each.number not in left), None)
        if waiting is None:
            return known
        try:
            _settle_one(store, settings, waiting, known)
        except TrackingError as error:
            if waiting.number == own:
                raise
            left.add(waiting.number)
            print(f"{name} version {waiting.number} still waits for the gate: {error}", file=sys.stderr)


def _settle_one(store: Store, settings: Settings, version: Version, known: list[Version]) -> None:
    client, name, number = store.client, version.name, str(version.number)
    if _is_twin(version, known):
        _withdraw(client, name, number)
        return
    if CHAMPION not in version.aliases:
        decision = judged(version, known, _asked(version), settings)
        told = {**asdict(decision), "reason": decision.reason, "comparable": decision.comparable}
        told["measurable"] = decision.measurable
        client.set_model_version_tag(name, number, _DECISION, json.dumps(told))
        client.set_model_version_tag(name, number, _REASON, decision.reason)
        if decision.champion and not promote(store, known, version, "gate", decision.reason):
            return  # another one was promoted at the same time: judge again, against that one
    client.delete_model_version_tag(name, number, _PENDING)


def _asked(version: Version) -> GateParams:
    try:
        return GateParams.model_validate(version.read(_PENDING))
    except ValidationError as error:
        problem = error.errors()[0]
        raise TrackingError(
            f"version {version.number} was registered with a gate that this code does not know "
            f"({'.'.join(map(str, problem['loc']))}: {problem['msg']}): register it again with the code of then, or "
            f"run `python -m pipelines.promote {version.number}`"
        ) from None


def _is_twin(version: Version, known: list[Version]) -> bool:
    """Whether two machines made this model a version at once, and this is the later one: who made it adds what was
    measured of it to the other."""
    older = find(known, version.model_digest, version.weights)
    return bool(version.model_digest) and older is not None and older.number < version.number and not version.aliases


def _withdraw(client: Any, name: str, number: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.delete_model_version(name, number)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # else the other machine was first
            raise
