"""An embedded store for each test, copied from one that was made once: making its tables takes seconds."""

import shutil
from pathlib import Path

import pytest

from pipelines.settings import Settings
from pipelines.tracking.store import connect


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of MLflow, with its tables and nothing in them."""
    folder = tmp_path_factory.mktemp("database")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(folder))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store = connect(Settings(), "none")
        store.client.delete_experiment(store.experiment_id)
    return folder / ".state" / "mlflow" / "mlflow.db"


@pytest.fixture
def workplace(workplace, database):
    folder = workplace.folder / ".state" / "mlflow"
    folder.mkdir(parents=True)
    shutil.copy(database, folder)
    return workplace
