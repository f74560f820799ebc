"""Versions of a model in the MLflow registry. What is compared or gated stands in a version's tags, as text or JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pipelines.tracking.store import Store

CHAMPION = "champion"
PENDING = "gate.pending"
"""Tag of a version whose gate's decision is not carried out yet: what it was compared with, see `standing`.

A process can die between making a version and moving the alias. The tag is made with the version and removed after
that, so a version without it is never touched again, and the alias is people's to move.
"""


@dataclass(frozen=True)
class Version:
    """A registered version, read from its tags."""

    name: str
    number: int
    aliases: tuple[str, ...]
    created_ms: int
    """Milliseconds since 1970."""
    tags: dict[str, str]

    @property
    def model_digest(self) -> str:
        """Content digest of its weights."""
        return self.tags.get("model.digest", "")

    @property
    def evaluation_digest(self) -> str:
        """SHA-256 of the metrics it was registered with."""
        return self.tags.get("evaluation.digest", "")

    @property
    def evaluation(self) -> dict[str, Any]:
        """results/evaluate/metrics.json as it was; empty for a version that another program made."""
        return dict(json.loads(self.tags.get("evaluation", "{}")))

    @property
    def params(self) -> dict[str, str]:
        """All parameters, flat."""
        return dict(json.loads(self.tags.get("params", "{}")))

    @property
    def training(self) -> dict[str, Any]:
        """results/train/metrics.json as it was."""
        return dict(json.loads(self.tags.get("training", "{}")))


def versions(store: Store, name: str) -> list[Version]:
    """All versions of a model, oldest first; empty if there is no such model."""
    found: list[Any] = []
    token = None
    while True:
        page = store.client.search_model_versions(f"name='{name}'", max_results=100, page_token=token)
        found += page
        if not (token := page.token):
            break
    aliases = _aliases(store, name) if found else {}
    read = [
        Version(name, int(v.version), tuple(aliases.get(int(v.version), ())), int(v.creation_timestamp), dict(v.tags))
        for v in found
    ]
    return sorted(read, key=lambda version: version.number)


def _aliases(store: Store, name: str) -> dict[int, list[str]]:
    of_version: dict[int, list[str]] = {}
    for alias, number in sorted(store.client.get_registered_model(name).aliases.items()):
        of_version.setdefault(int(number), []).append(alias)
    return of_version


def champion(known: list[Version]) -> Version | None:
    """The version that the alias stands at."""
    return next((version for version in known if CHAMPION in version.aliases), None)


def standing(current: Version | None) -> str:
    """The champion that a decision was made against: its number, or `none`."""
    return "none" if current is None else str(current.number)


def settle(store: Store, name: str) -> list[Version]:
    """All versions, oldest first, after what the gate decided was carried out where that is pending."""
    known = versions(store, name)
    for version in [v for v in known if PENDING in v.tags]:
        _carry_out(store, version, champion(known))
        known = versions(store, name)
    return known


def _carry_out(store: Store, version: Version, current: Version | None) -> None:
    """A decision holds for the champion that it was made against: an alias that was moved since then stays."""
    if version.tags.get("gate.champion") == "true" and version.tags[PENDING] == standing(current):
        store.client.set_registered_model_alias(version.name, CHAMPION, str(version.number))
    store.client.delete_model_version_tag(version.name, str(version.number), PENDING)


def find(known: list[Version], model_digest: str, evaluation_digest: str) -> Version | None:
    """The version with this model and this evaluation."""
    wanted = (model_digest, evaluation_digest)
    return next((v for v in known if (v.model_digest, v.evaluation_digest) == wanted), None)
