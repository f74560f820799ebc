"""An embedded store for each test, copied from one that was made once: making its tables takes seconds."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.settings import Settings
from pipelines.tracking.run import identity as run_identity
from pipelines.tracking.spool import Spool
from pipelines.tracking.store import quiet_mlflow


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of MLflow, with its tables and nothing in them."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    mlflow = quiet_mlflow(Settings())
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def workplace(workplace, database):
    folder = workplace.folder / ".state" / "mlflow"
    folder.mkdir(parents=True)
    shutil.copy(database, folder)
    return workplace


@pytest.fixture
def spool(workplace) -> Iterator[Spool]:
    spool = Spool.open(run_identity("train", workplace.params, "k"))
    yield spool
    spool.close()
