"""A model as MLflow stores it: code, safetensors, signature and pinned requirements. No pickle."""

from __future__ import annotations

import shutil
import tempfile
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from pipelines.errors import CheckpointError
from pipelines.project import workspace
from pipelines.tracking.loading import load_mlflow

REQUIREMENTS = ("mlflow", "torch", "numpy", "pandas", "safetensors", "scipy")
MODEL_FILES = ("model.safetensors", "model.json")
CODE = "served.py"


def log_model(mlflow: Any, run_id: str, trained: Path, weights: str) -> Any:
    """Log the model in `trained` (results/train) as a pyfunc of the run; MLflow's LoggedModel.

    Args:
        trained: holds model.safetensors and model.json.
        weights: `ema` or `raw`, those that were evaluated; a loaded version draws with them.

    Raises:
        CheckpointError: model.json is damaged.
    """
    load_mlflow("models", "pyfunc", "types.schema")
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from mlflow.types.schema import AnyType

    from diffusion.models.sealed import file_sha256

    inputs = Schema(
        [
            ColSpec(DataType.long, "count", required=False),
            ColSpec(DataType.long, "seed", required=False),
            ColSpec(DataType.string, "sampler", required=False),
            ColSpec(DataType.long, "steps", required=False),
            ColSpec(AnyType(), "class", required=False),  # through long and double MLflow lets no null, or no whole
            ColSpec(AnyType(), "guidance", required=False),  # number: served.py checks these two
        ]
    )
    with tempfile.TemporaryDirectory() as scratch:
        version = Path(scratch)
        _lay_out(trained, version)
        with mlflow.start_run(run_id=run_id):
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(version / CODE),
                artifacts={"model": str(version / "artifacts/model")},
                model_config={
                    "weights": weights,
                    "model_digest": _digest(trained),
                    "code_sha256": {
                        path.relative_to(version).as_posix(): file_sha256(path)
                        for path in (version / CODE, *(version / "code").rglob("*"))
                        if path.is_file()
                    },
                },
                code_paths=[str(version / "code/diffusion")],
                pip_requirements=[f"{name}=={installed(name).split('+')[0]}" for name in REQUIREMENTS],
                signature=ModelSignature(inputs, Schema([TensorSpec(_uint8(), (-1, -1, -1, -1))])),
                input_example={"count": 4, "seed": 1, "sampler": "ddim", "steps": 20},
            )
    return mlflow.get_logged_model(info.model_id)


def _lay_out(trained: Path, version: Path) -> None:
    """Code and model as they will lie in the version."""
    (version / "artifacts/model").mkdir(parents=True)
    for name in MODEL_FILES:
        shutil.copy2(trained / name, version / "artifacts/model" / name)
    shutil.copytree(workspace() / "diffusion", version / "code/diffusion", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(Path(__file__).with_name(CODE), version / CODE)


def _digest(trained: Path) -> str:
    from diffusion.models.description import Description

    try:
        return Description.read(trained).digests.content
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def _uint8() -> Any:
    import numpy as np

    return np.dtype("uint8")
