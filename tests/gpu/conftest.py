"""What the tests of CUDA share. Where there is no GPU they are skipped; GPU_TESTS_ON=cpu rehearses them on the CPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.cluster.job import Job, Place
from pipelines.cluster.session import ray_session
from pipelines.cluster.trainer import train
from pipelines.settings import RaySettings, Settings
from tests.distributed.conftest import Lab, prepared
from tests.pipelines.stage_inputs import saved_model

__all__ = ["prepared"]

DEVICE = os.environ.get("GPU_TESTS_ON", "cuda")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as `fix_kernels`, whichever test starts CUDA here

STEPS: dict[str, Any] = {"steps": 20, "val_every": 10}

Fit = Callable[..., list[Any]]


@pytest.fixture(scope="session", autouse=True)
def gpu() -> None:
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def device() -> str:
    return DEVICE


@pytest.fixture
def lab(prepared: Path, tmp_path: Path) -> Lab:
    """Its loops in this process run on the GPU."""
    made = Lab(prepared, tmp_path)
    made.place = Place(0, 1, torch.device(DEVICE, 0) if DEVICE == "cuda" else torch.device(DEVICE))
    return made


@pytest.fixture(autouse=True)
def settings_of_torch() -> Iterator[None]:
    """A loop in this process sets what would hold for the tests after it."""
    torch.set_num_threads(1)
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False


def ray_settings(workers: int, gpus: float, **ray: Any) -> Settings:
    """Workers with so much of a GPU each, none in a rehearsal."""
    return Settings(
        ray=RaySettings(workers=workers, cpus_per_worker=0.5, gpus_per_worker=gpus if DEVICE == "cuda" else 0, **ray)
    )


@pytest.fixture(scope="session")
def ray_is_up() -> Iterator[None]:
    """One Ray for all tests, which use it as a session within another."""
    with ray_session(ray_settings(8, 0)):
        yield


@pytest.fixture
def fit(ray_is_up: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fit:
    """Trains a job on Ray's workers; what they told. Ray Train's own storage goes to a `.state` of the test."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))

    def train_it(job: Job, workers: int, gpus: float = 0.25, **ray: Any) -> list[Any]:
        events: list[Any] = []
        train(job, ray_settings(workers, gpus, **ray), events.append)
        return events

    return train_it


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of digits, untrained, with T = 20 and a learned variance."""
    return saved_model(tmp_path_factory.mktemp("model"), learned_variance=True)
