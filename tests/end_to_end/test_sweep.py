"""A sweep of three tiny trials, one of which cannot train: killed in the middle, started again, read in MLflow."""

import json
import os
import re
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.end_to_end.project import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SWEEP = ("python", "-m", "pipelines.sweep", "--name", "sizes", "-S", "train.batch_size=32,64,4096")
"""4,096 images in a batch are more than there are, which only the data says."""


def test_a_sweep_killed_in_the_middle_goes_on_and_one_failure_stops_nothing(tiny: Project):
    tiny.set(train__steps="200", train__val_every="100")
    process = tiny.start(*SWEEP)
    wait(process, lambda: any((tiny.folder / ".state/runs").glob("*/step-*")))
    os.kill(process.pid, signal.SIGKILL)  # the sweep alone: its trials must notice
    process.communicate()
    wait(None, lambda: not left_over(tiny))
    before = {path.name for path in (tiny.folder / ".state/runs").iterdir()}

    output = tiny.run(*SWEEP, status=1)
    assert before <= {path.name for path in (tiny.folder / ".state/runs").iterdir()}
    logs = "".join(path.read_text() for path in (tiny.folder / ".state/sweeps/sizes").glob("*/log.txt"))
    assert "resum" in logs.lower()
    assert "FAILED: train.batch_size=4096" in output.text
    assert "4096" in output.text.split("the end of")[1]  # the tail of its log says why
    assert re.search(r"python -m pipelines\.compare( models:/ddpm-digits/\d){2}$", output.text, re.MULTILINE)
    assert output.text.index("best") < output.text.index("FAILED")

    again = tiny.run(*SWEEP, status=1)
    assert "2 of them finished" in again.text
    lost = int(re.findall(r"models:/ddpm-digits/(\d)", again.text)[0])
    code = f"import mlflow; mlflow.MlflowClient().delete_model_version('ddpm-digits', '{lost}')"
    tiny.python("-c", code, MLFLOW_TRACKING_URI=store(tiny))
    found = tiny.run(*SWEEP, status=1).text
    assert "1 of them finished" in found
    assert found.index("best") < found.index("FAILED")
    assert len(set(re.findall(r"models:/ddpm-digits/\d", found))) == 2  # registered anew, though DVC ran no stage
    assert family(tiny) == {"sweep": 1, "trials": True, "stages": True}


def left_over(project: Project) -> list[Path]:
    """Processes that work in the copy of a trial."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink().is_relative_to(project.folder / ".state/sweeps"):
                found.append(process)
    return found


def family(project: Project) -> dict[str, object]:
    """How the runs hang together in MLflow."""
    code = """
import json, mlflow
client = mlflow.MlflowClient()
runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
parent = {run.info.run_id: run.data.tags.get("mlflow.parentRunId") for run in runs}
sweeps = [run.info.run_id for run in runs if run.data.tags["stage"] == "sweep"]
trials = [run.info.run_id for run in runs if run.data.tags["stage"] == "pipeline" and parent[run.info.run_id] in sweeps]
stages = all(any(parent[r] == trial for r in parent) for trial in trials)
print(json.dumps({"sweep": len(sweeps), "trials": len(trials) >= 2, "stages": stages}))
"""
    return dict(json.loads(project.python("-c", code, MLFLOW_TRACKING_URI=store(project)).text.splitlines()[-1]))


def store(project: Project) -> str:
    """Its embedded MLflow."""
    return f"sqlite:///{project.folder / '.state/mlflow/mlflow.db'}"


def wait(process, there) -> None:
    """Until it is so."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        if there():
            return
        assert process is None or process.poll() is None, process.stdout.read()
        time.sleep(0.2)
    raise AssertionError("not in time")
