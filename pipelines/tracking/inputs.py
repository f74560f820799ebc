"""The prepared data as MLflow knows data: a dataset that a run reads."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

from pipelines.data.manifest import Manifest

_DIGEST = 36
"""Characters that MLflow keeps of a dataset's digest."""


def dataset_of(manifest: Manifest, context: str = "training") -> Any:
    """The mlflow.entities.DatasetInput for `client.log_inputs(run_id, datasets=[..])`.

    Of a folder outside the project only its name is told: no paths of this machine.

    Args:
        context: what the run does with it, `training` or `evaluation`.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    path = PurePath(str(manifest.parameters["data"]["path"]))
    C, H, W = manifest.shape
    dataset = Dataset(
        name=path.name if manifest.source == "folder" else manifest.source,
        digest=manifest.digest[:_DIGEST],
        source_type=manifest.source,
        source=json.dumps({"path": path.name if path.is_absolute() else str(path), "prepare": _prepare(manifest)}),
        schema=json.dumps(
            {"image": {"dtype": "uint8", "shape": [C, H, W], "levels": manifest.levels}} | _labels(manifest)
        ),
        profile=json.dumps({**manifest.counts, "bad": len(manifest.bad), "duplicates": manifest.duplicates}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", context)])


def _prepare(manifest: Manifest) -> dict[str, Any]:
    return dict(manifest.parameters["prepare"])


def _labels(manifest: Manifest) -> dict[str, Any]:
    return {"label": {"dtype": "int64", "classes": len(manifest.classes)}} if manifest.classes else {}
