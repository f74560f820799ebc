"""The embedded store after its project's folder was moved."""

import shutil
from pathlib import Path

import pytest

from pipelines.errors import TrackingError
from pipelines.tracking import moved
from pipelines.tracking.fetch import known_versions
from pipelines.tracking.run import stage_run
from pipelines.tracking.store import connect, embedded_folder

pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_moved_project_says_so_and_one_command_mends_it(workplace, tmp_path, monkeypatch):
    note = tmp_path / "note.txt"
    note.write_text("still here")
    with stage_run("train", workplace.params, workplace.settings, key="k") as tracker:
        tracker.artifact(note)
    new = tmp_path / "elsewhere"
    new.mkdir()
    shutil.move(tmp_path / ".state", new / ".state")
    monkeypatch.setenv("DVC_ROOT", str(new))

    with pytest.raises(TrackingError, match=r"python -m pipelines\.tracking\.moved"):
        known_versions(workplace.settings, "ddpm-digits")
    with pytest.raises(TrackingError, match=r"python -m pipelines\.tracking\.moved"):
        connect(workplace.settings, "ddpm-digits")
    moved.main()
    store = connect(workplace.settings, "ddpm-digits")
    (run,) = store.client.search_runs([store.experiment_id], "tags.stage = 'train'")
    assert Path(store.client.download_artifacts(run.info.run_id, "note.txt")).read_text() == "still here"


def test_without_a_store_there_is_nothing_to_move(workplace):
    (embedded_folder() / "mlflow.db").unlink()
    with pytest.raises(TrackingError, match="no embedded MLflow store"):
        moved.main()
