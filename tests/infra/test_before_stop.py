"""What a pod of a stage's cluster does before it ends, with real processes that no other test can see."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.infra.conftest import INFRA

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="a namespace of processes needs root"),
    pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not on PATH"),
]

SCRIPT = INFRA / "kuberay" / "stage" / "before-stop.sh"
STAGE = """
import signal, subprocess, sys, time
from pathlib import Path
def save(*_):
    Path(sys.argv[1] + " asked").touch()
    if sys.argv[1] == "second":
        return
    time.sleep(0.3)
    Path("saved").touch()
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
if sys.argv[1] == "first":
    subprocess.Popen([sys.executable, "-m", "pipelines.stage", "second"])
Path(sys.argv[1] + " began").touch()
while not Path("saved").exists():
    time.sleep(0.05)
"""
WORKER = 'until [ -e saved ]; do sleep 0.05; done; sleep 0.3; touch "worker ended"'


def pod(folder: Path, *lines: str) -> list[str]:
    """The files that are there after some lines of bash, in a namespace of processes of their own."""
    (folder / "pipelines").mkdir()
    (folder / "pipelines" / "stage.py").write_text(STAGE)
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c", "\n".join(lines)]
    subprocess.run(command, cwd=folder, timeout=30, check=True)
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def test_the_head_asks_the_stage_to_save_and_waits_for_it(tmp_path: Path) -> None:
    """The process that has started the other one; that one gets no signal of its own."""
    files = pod(
        tmp_path,
        f"{sys.executable} -m pipelines.stage first &",
        'until [ -e "second began" ]; do sleep 0.05; done',
        f"{SCRIPT}; ls > after",
    )
    assert files == ["after", "first asked", "first began", "saved", "second began"]
    assert "saved" in (tmp_path / "after").read_text()


@pytest.mark.parametrize("who", ["RayTrainWorker.execute", "TrainController"])
def test_a_worker_waits_until_it_has_no_more_to_do(tmp_path: Path, who: str) -> None:
    files = pod(
        tmp_path,
        f"(exec -a ray::{who} bash -c '{WORKER}') &",
        "(exec -a ray::IDLE sleep 60) &",
        "sleep 0.2",
        "(sleep 0.5; touch saved) &",
        f"{SCRIPT}; ls > after",
    )
    assert files == ["after", "saved", "worker ended"]
    assert "worker ended" in (tmp_path / "after").read_text()


@pytest.mark.parametrize("stays", ["IDLE", "_AutoscalingCoordinatorActor", "Board"])
def test_where_no_training_runs_it_ends_at_once(tmp_path: Path, stays: str) -> None:
    """Whatever else Ray has there. The one that counts machines outlives elastic training."""
    assert pod(tmp_path, f"(exec -a ray::{stays} sleep 60) &", "sleep 0.1", f"timeout 5 {SCRIPT}") == []
