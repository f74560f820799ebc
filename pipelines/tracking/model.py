"""A model as MLflow stores it: code, safetensors, signature and pinned requirements. No pickle."""

from __future__ import annotations

import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipelines.project import workspace

REQUIREMENTS = ("mlflow", "torch", "numpy", "pandas", "safetensors", "scipy")
MODEL_FILES = ("model.safetensors", "model.json")


def log_model(mlflow: Any, run_id: str, trained: Path, weights: str) -> Any:
    """Log the model in `trained` (results/train) as a pyfunc of the run; MLflow's LoggedModel.

    Args:
        trained: holds model.safetensors and model.json.
        weights: `ema` or `raw`, those that were evaluated; a loaded version draws with them.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    inputs = Schema(
        [
            ColSpec(DataType.long, "count", required=False),
            ColSpec(DataType.long, "seed", required=False),
            ColSpec(DataType.string, "sampler", required=False),
            ColSpec(DataType.long, "steps", required=False),
            ColSpec(DataType.long, "label", required=False),
            ColSpec(DataType.double, "guidance", required=False),
        ]
    )
    with tempfile.TemporaryDirectory() as scratch:
        model, code = Path(scratch) / "model", Path(scratch) / "diffusion"
        model.mkdir()
        for name in MODEL_FILES:
            shutil.copy2(trained / name, model / name)
        shutil.copytree(workspace() / "diffusion", code, ignore=shutil.ignore_patterns("__pycache__"))
        with mlflow.start_run(run_id=run_id):
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(Path(__file__).with_name("served.py")),
                artifacts={"model": str(model)},
                model_config={"weights": weights},
                code_paths=[str(code)],
                pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in REQUIREMENTS],
                signature=ModelSignature(inputs, Schema([TensorSpec(_uint8(), (-1, -1, -1, -1))])),
                input_example={"count": 4, "seed": 1, "sampler": "ddim", "steps": 20},
            )
    return mlflow.get_logged_model(info.model_id)


def _uint8() -> Any:
    import numpy as np

    return np.dtype("uint8")
