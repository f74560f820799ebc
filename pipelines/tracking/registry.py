"""Versions of a model in the MLflow registry. What is compared or gated stands in a version's tags, as text or JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pipelines.tracking.store import Store

CHAMPION = "champion"
PREVIOUS = "previous"
"""Alias of the version that was champion before."""


@dataclass(frozen=True)
class Version:
    """A registered version, read from its tags."""

    name: str
    number: int
    aliases: tuple[str, ...]
    created_ms: int
    """Milliseconds since 1970."""
    run_id: str
    """Of the MLflow run that holds its files."""
    tags: dict[str, str]

    @property
    def uri(self) -> str:
        """How every command takes it, whatever params.yaml calls the model: `models:/NAME/VERSION`."""
        return f"models:/{self.name}/{self.number}"

    @property
    def model_digest(self) -> str:
        """Content digest of its weights."""
        return self.tags.get("model.digest", "")

    @property
    def weights(self) -> str:
        """Those that it draws with: `ema` or `raw`."""
        return self.tags.get("weights", "")

    @property
    def params(self) -> dict[str, str]:
        """All parameters, flat."""
        return self.read("params")

    @property
    def training(self) -> dict[str, Any]:
        """results/train/metrics.json as it was; empty for a model that was trained elsewhere."""
        return self.read("training")

    @property
    def took(self) -> dict[str, dict[str, Any]]:
        """Stage -> what it cost: see `pipelines.tracking.took`."""
        return self.read("took")

    def read(self, tag: str) -> dict[str, Any]:
        """A tag that holds a JSON object; empty where it is missing or another program wrote something else there."""
        try:
            value = json.loads(self.tags.get(tag, "{}"))
        except ValueError:
            return {}
        return dict(value) if isinstance(value, dict) else {}


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
        Version(
            name=name,
            number=int(v.version),
            aliases=tuple(aliases.get(int(v.version), ())),
            created_ms=int(v.creation_timestamp),
            run_id=str(v.run_id or ""),
            tags=dict(v.tags),
        )
        for v in found
    ]
    return sorted(read, key=lambda version: version.number)


def _aliases(store: Store, name: str) -> dict[int, list[str]]:
    of_version: dict[int, list[str]] = {}
    for alias, number in sorted(store.client.get_registered_model(name).aliases.items()):
        of_version.setdefault(int(number), []).append(alias)
    return of_version


def at(known: list[Version], alias: str) -> Version | None:
    """The version that the alias stands at."""
    return next((version for version in known if alias in version.aliases), None)


def find(known: list[Version], model_digest: str, weights: str) -> Version | None:
    """The oldest version that is this model, drawing with these weights: two machines may have made one each."""
    return next((v for v in known if (v.model_digest, v.weights) == (model_digest, weights)), None)
