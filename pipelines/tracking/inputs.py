"""The prepared data as MLflow knows data: a dataset that a run reads."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

from pipelines.data.manifest import Manifest

_DIGEST = 36
"""Characters that MLflow keeps of a dataset's digest."""


CONTEXTS = {
    "prepare": "preparation",
    "reference": "reference",
    "train": "training",
    "classifier": "training",
    "evaluate": "evaluation",
    "register": "evaluation",
}
"""Stage -> what it does with the images. Sampling reads none."""


def dataset_facts(manifest: Manifest, stage: str) -> dict[str, str] | None:
    """What MLflow is told of the images that a stage reads; None for one that reads none.

    Of a folder outside the project only its name is told: no paths of this machine.
    """
    if stage not in CONTEXTS:
        return None
    path = PurePath(str(manifest.parameters["data"]["path"]))
    C, H, W = manifest.shape
    images = {"image": {"dtype": "uint8", "shape": [C, H, W], "levels": manifest.levels}}
    return {
        "name": path.name if manifest.source == "folder" else manifest.source,
        "digest": manifest.digest[:_DIGEST],
        "source_type": manifest.source,
        "source": json.dumps({"path": path.name if path.is_absolute() else str(path), "prepare": _prepare(manifest)}),
        "schema": json.dumps(images | _labels(manifest)),
        "profile": json.dumps({**manifest.counts, "bad": len(manifest.bad), "duplicates": manifest.duplicates}),
        "context": CONTEXTS[stage],
    }


def dataset_input(facts: dict[str, str]) -> Any:
    """The mlflow.entities.DatasetInput of these facts, for `client.log_inputs(run_id, datasets=[..])`."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    of_data = {name: value for name, value in facts.items() if name != "context"}
    return DatasetInput(Dataset(**of_data), [InputTag("mlflow.data.context", facts["context"])])


def _prepare(manifest: Manifest) -> dict[str, Any]:
    return dict(manifest.parameters["prepare"])


def _labels(manifest: Manifest) -> dict[str, Any]:
    return {"label": {"dtype": "int64", "classes": len(manifest.classes)}} if manifest.classes else {}
