"""What `dvc repro` left in a checkout against what was registered: digests and every number. Weights and images are
read: what model.json and manifest.json say of the files beside them is no proof."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.data.manifest import verify
from pipelines.errors import CheckpointError
from pipelines.reproduction.here import Check
from pipelines.settings import Settings
from pipelines.tracking.intact import content_of
from pipelines.tracking.measurements import measurements
from pipelines.tracking.registry import Version

_SHOWN = 5


def verified(version: Version, folder: Path, settings: Settings) -> list[Check]:
    """Weights, data and evaluation: whether each is exactly the registered one.

    Raises:
        CheckpointError: there are no results in the folder, or its model is damaged.
        DataError: its prepared images are damaged.
    """
    results = folder / "results"
    for path in (results / "train/model.json", results / "evaluate/metrics.json"):
        if not path.exists():
            raise CheckpointError(f"{path} is missing: run `dvc repro` in {folder} first")
    model, data = content_of(results / "train"), verify(results / "prepare").digest
    metrics = json.loads((results / "evaluate/metrics.json").read_text())
    kept = measurements(version, settings)
    return [
        _equal("data", version.tags.get("data.digest", ""), data),
        _equal("weights", version.model_digest, model),
        _numbers(kept[-1].content, metrics)
        if kept
        else Check("evaluation", False, "no measurement of it is registered"),
    ]


def _equal(what: str, registered: str, here: str) -> Check:
    if registered == here:
        return Check(what, True, f"the same: {here[:12]}")
    return Check(what, False, f"{here[:12]}, registered {registered[:12]}")


def _numbers(registered: dict[str, Any], here: dict[str, Any]) -> Check:
    there, found = dict(_leaves(registered)), dict(_leaves(here))
    other = [name for name in sorted(there.keys() | found.keys()) if there.get(name) != found.get(name)]
    if not other:
        return Check("evaluation", True, f"all {len(found)} numbers and facts are the same")
    shown = [f"{name} {found.get(name)} (registered {there.get(name)})" for name in other[:_SHOWN]]
    rest = f" and {len(other) - _SHOWN} more" if len(other) > _SHOWN else ""
    return Check("evaluation", False, f"differs: {', '.join(shown)}{rest}")


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value
