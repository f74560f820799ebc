"""A project in a temporary folder with results of train and evaluate, and an embedded MLflow store of its own."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from diffusion.models import UNet
from diffusion.models.saved import save_model
from diffusion.process import NoiseSchedule
from pipelines import project
from pipelines.params import Params, load_params
from pipelines.settings import Settings, load_settings

ROOT = project.workspace()


@dataclass(frozen=True)
class Workplace:
    """Writes results as the stages would."""

    folder: Path
    params: Params
    settings: Settings

    def model(self, seed: int = 0, total: float = 2.0, distance: float = 3.5, **card: Any) -> str:
        """An untrained model with a made-up evaluation; its content digest."""
        torch.manual_seed(seed)
        net = UNet(8, 1, 8, (1,))
        trained, evaluated = self.folder / "results/train", self.folder / "results/evaluate"
        samples = self.folder / "results/sample"
        for folder in (trained, evaluated, samples):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        weights = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        digest = save_model(
            trained,
            architecture=net.architecture.to_json(),
            ema=weights,
            raw={name: tensor + 1 for name, tensor in weights.items()},
            schedule=NoiseSchedule.linear(20),
            levels=17,
            card={"run": "0123456789abcdef"},
        )
        (trained / "metrics.json").write_text(json.dumps({"steps": 10, "parameters": 1234}))
        content = evaluation(digest, total, distance, **card)
        (evaluated / "metrics.json").write_text(json.dumps(content))
        write_tables(evaluated, content, seed)
        pixels = np.random.default_rng(seed).integers(0, 17, (32, 1, 8, 8), dtype=np.uint8)
        np.save(samples / "samples.npy", pixels)
        (samples / "samples.json").write_text(json.dumps({"seed": seed, "levels": 17, "model_digest": digest}))
        return digest


SCORES = {
    "images": 32,
    **{"value": 3.5, "value_se": 0.1, "low": 3.3, "high": 3.7, "infinity": 1.5, "infinity_se": 0.2},
    **{"kid": 0.4, "kid_se": 0.01, "precision": 0.75, "recall": 0.5, "density": 0.9, "coverage": 0.8},
}


def write_tables(folder: Path, content: dict[str, Any], seed: int) -> None:
    """The tables of an evaluation: what an image costs is mostly its own, and a little the model's."""
    n, bits = 24, content["bits_per_dim"]
    images, model = np.random.default_rng(0).normal(0, 0.3, n), np.random.default_rng(seed).normal(0, 0.05, n)
    rest = images - images.mean() + model - model.mean()
    table = pd.DataFrame({"image_id": [f"{i:04}" for i in range(n)], "L_T": 0.1, "L_0": 0.1})
    table["L_t_sum"] = bits["L_t_sum"] + rest
    table["total"] = bits["total"] + rest
    table.to_parquet(folder / "per_image.parquet", index=False)
    t = np.arange(2, 21)
    curve = bits["L_t_sum"] * np.exp(-t / 5) / np.exp(-t / 5).sum()
    pd.DataFrame({"t": t, "L_t": curve, "L_t_se": 0.01}).to_parquet(folder / "per_timestep.parquet", index=False)
    (folder / "bound_shares.csv").write_text("first,last,log_snr,bits,bits_se\n")


def evaluation(digest: str, total: float, distance: float = 3.5, **card: Any) -> dict[str, Any]:
    """A metrics.json whose terms add up to `total`."""
    terms = {"L_T": 0.1, "L_t_sum": total - 0.2, "L_0": 0.1, "total": total}
    errors = {f"{name}_se": 0.01 for name in terms}
    shared = {"model_digest": digest, "data_digest": "d" * 64, "split": "test", "images": 24, "weights": "ema"}
    shared |= {"decoder": "normalized_levels", "first_time": 1}
    return {
        "bits_per_dim": {**terms, **errors, "card": shared | card},
        "fd_classifier": {
            **(SCORES | {"value": distance, "low": distance - 0.2, "high": distance + 0.2}),
            "held_out": SCORES | {"images": 24, "value": 1.0},
            "card": {
                "samples": {"model_digest": digest, "count": 32},
                "reference": {"seed": 0},
                "scoring": {"level": 0.95, "paired": 32},
                "warnings": [],
            },
        },
        "yardstick": {"uniform": 4.0875, "histogram": 2.44},
    }


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow with its tables and nothing in them, which take seconds to make."""
    from pipelines.tracking.store import quiet_mlflow

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    quiet_mlflow(Settings()).MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> Workplace:
    """params.yaml of this project in a temporary folder that holds .state and results."""
    (tmp_path / ".state/mlflow").mkdir(parents=True)
    shutil.copy(empty_store, tmp_path / ".state/mlflow")
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    _move_workspace(monkeypatch, tmp_path)
    return Workplace(tmp_path, load_params(tmp_path / "params.yaml"), load_settings())


def _move_workspace(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    from pipelines import compare, register, summary
    from pipelines.tracking import run

    def results(stage: str) -> Path:
        return folder / "results" / stage

    monkeypatch.setattr(register, "workspace", lambda: folder)
    for module in (register, run, summary):
        monkeypatch.setattr(module, "results", results)
    load: Callable[[], Params] = lambda: load_params(folder / "params.yaml")  # noqa: E731
    for module in (register, compare):
        monkeypatch.setattr(module, "load_params", load)
