"""A real MLflow server whose artifact store is read-only, and one whose disk is full: what it can take it has, and the
rest arrives when it can."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.sync import send
from pipelines.tracking.run import stage_run
from pipelines.tracking.store import connect
from tests.pipelines.tracking.proxy import mlflow_server
from tests.pipelines.tracking.stepper import settings_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root"),
]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"no file system can be mounted here: {mount.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", disk], check=True)


def tell_a_run(workplace, settings, tmp_path: Path, steps: int) -> None:
    (tmp_path / "note.txt").write_text("look at me")
    with stage_run("train", workplace.params, settings, key="k") as tracker:
        tracker.artifact(tmp_path / "note.txt")
        for step in range(steps):
            tracker.metrics(step, {"loss": float(step)})


def in_mlflow(workplace, settings) -> tuple[str, list[int], list[str]]:
    """Status, steps and files of the run."""
    store = connect(settings, workplace.params.register_.name)
    (run,) = store.client.search_runs([store.experiment_id], "tags.stage = 'train'")
    run_id = run.info.run_id
    steps = [point.step for point in store.client.get_metric_history(run_id, "loss")]
    return run.info.status, steps, [file.path for file in store.client.list_artifacts(run_id)]


def test_a_read_only_artifact_store_holds_up_no_numbers(workplace, tmp_path, disk, capsys):
    remount(disk, "ro")
    with mlflow_server(tmp_path, disk / "artifacts") as port:
        settings = settings_for(f"http://127.0.0.1:{port}", timeout_s=10, retries=1)
        tell_a_run(workplace, settings, tmp_path, steps=500)
        said = capsys.readouterr().err
        assert "not yet in MLflow: 1 file (the server refused it (note.txt: it answers 500; its log says why))" in said
        assert in_mlflow(workplace, settings) == ("FINISHED", list(range(500)), [])
        assert not send(settings, others=False)
        remount(disk, "rw")
        assert send(settings, others=False)
        assert in_mlflow(workplace, settings) == ("FINISHED", list(range(500)), ["note.txt"])


def test_a_server_whose_disk_is_full_gets_all_of_it_later(workplace, tmp_path, disk, capsys):
    with mlflow_server(disk, tmp_path / "artifacts") as port:
        settings = settings_for(f"http://127.0.0.1:{port}", timeout_s=10, retries=1)
        connect(settings, workplace.params.register_.name)
        with (disk / "ballast").open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        tell_a_run(workplace, settings, tmp_path, steps=3000)
        said = capsys.readouterr().err
        assert "not yet in MLflow: " in said
        assert not send(settings, others=False)
        (disk / "ballast").unlink()
        assert send(settings, others=False)
        assert in_mlflow(workplace, settings) == ("FINISHED", list(range(3000)), ["note.txt"])
