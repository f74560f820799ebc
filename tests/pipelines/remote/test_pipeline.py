"""A small pipeline as a job, by the real commands: stopped, taken up again, dvc.lock brought here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipelines.remote.conftest import ERRAND, Client, Errands
from tests.pipelines.remote.processes import working_in

DVC_YAML = """\
stages:
  prepare:
    cmd: mkdir -p results/prepare && echo a meadow > results/prepare/data
    deps: [pipelines/__init__.py]
    outs: [results/prepare]
  reference:
    cmd: python -m pipelines.reference
    deps: [results/prepare]
    outs: [results/reference]
"""
SIGNAL = "signal.signal(signal.SIGTERM, stop)"
IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@localhost")


REGISTER = """\
  register:
    cmd: >-
      echo $MLFLOW_TRACKING_URI >> {registered} && cat results/reference/sheep &&
      mkdir -p results/register && echo '{{"name": "sheep", "version": 1}}' > results/register/receipt.json
    deps: [results/reference]
    outs: [results/register]
"""


def submit(errands: Errands, how: str, *words: str, registry: str = "http://127.0.0.1:9") -> Client:
    """Have the pipeline run by a job on this machine."""
    file = errands.folder.parent / f"client-{len(errands.clients)}.txt"
    environment = errands.environment(how) | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": registry,
    }
    with file.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.submit", *words],
            cwd=errands.folder,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )
    errands.clients.append(Client(process, file))
    return errands.clients[-1]


@pytest.fixture
def committed(errands: Errands) -> Errands:
    """In a repository whose commit says that stages are jobs."""
    folder = errands.folder
    (folder / "results/prepare/data").unlink()
    (folder / "dvc.yaml").write_text(DVC_YAML + REGISTER.format(registered=_registered(errands)))
    (folder / "pipelines/reference.py").write_text(
        ERRAND.replace(SIGNAL, f"{SIGNAL}\n    {SIGNAL.replace('TERM', 'INT')}")
    )
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text(
        f"[core]\n    remote = store\n['remote \"store\"']\n    url = {_store(errands)}\n"
    )
    (folder / "infra").mkdir(exist_ok=True)
    (folder / "infra/cluster.yaml").write_text("jobs:\n  backend: local\n")
    (folder / ".gitignore").write_text("/results\n.state\n__pycache__\n/.dvc/config.local\n/.dvc/tmp\n")
    for words in (["init", "-q"], ["add", "-A"], [*IDENTITY, "commit", "-qm", "a pipeline"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return errands


def _store(errands: Errands) -> Path:
    return errands.folder.parent / "store"


def _registered(errands: Errands) -> Path:
    return errands.folder.parent / "registered"


@pytest.mark.slow
def test_a_pipeline_that_is_stopped_goes_on_from_there(committed: Errands) -> None:
    client = submit(committed, "slow")
    committed.running()
    (job,) = (job.name for job in committed.jobs)
    assert "stopped" in committed.command("cancel", job)
    assert client.wait() == 75
    assert f"job {job} was stopped and has saved: saved" in client.text
    assert list(_store(committed).rglob("*.dir")), "what was made is not in the remote"
    assert not working_in(f"/{job}-")
    assert not (committed.folder / "dvc.lock").exists()

    committed.let_go()
    client = submit(committed, "slow")
    assert client.wait() == 0, client.text
    assert "Stage 'prepare' is cached" in client.text
    assert "done, and pushed" in client.text
    assert [job.name[-2:] for job in committed.jobs] == ["-1", "-2"], "a stage was a job of its own"
    assert "started on" not in "".join((job / "log.txt").read_text() for job in committed.jobs)
    assert "reference:" in (committed.folder / "dvc.lock").read_text()
    assert list((committed.folder.parent / "cache").glob("dvc-*/files/md5/*"))

    client = submit(committed, "")
    assert client.wait() == 1
    assert "changes that are not committed: add --commit-to" in client.text
    assert len(committed.jobs) == 2


@pytest.mark.slow
def test_a_pipeline_whose_stage_stands_still_is_ended(committed: Errands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINES__JOBS__STALLED_AFTER_MIN", "0.1")
    client = submit(committed, "stands still")
    assert client.wait() == 1
    assert "the job has not got on for 0.1 minutes" in client.text
    assert not working_in(f"/{committed.jobs[0].name}-")


@pytest.mark.slow
def test_a_pipeline_is_registered_in_each_registry_once(committed: Errands) -> None:
    """Its results are made once; with dvc.lock of the first time no stage has changed."""

    def submitted(registry: str, *words: str) -> str:
        client = submit(committed, "", "--commit-to", "results", *words, registry=registry)
        assert client.wait() == 0, client.text
        assert "done, and pushed; registered as models:/sheep/1" in client.text
        return client.text

    one, other = "http://127.0.0.1:9", "http://127.0.0.1:99"
    assert "the errand begins" in submitted(one)
    assert "has done this before" in submitted(one)
    assert _registered(committed).read_text().split() == [one]
    assert "the errand begins" not in submitted(other)
    assert _registered(committed).read_text().split() == [one, other]
    submitted(other, "--again")
    assert [job.name[-2:] for job in committed.jobs] == ["-1", "-2", "-3"]
    shutil.rmtree(committed.folder.parent / "cache")
    assert "Stage 'register' didn't change" in submitted(one, "--rev", "results")
    assert _registered(committed).read_text().split() == [one, other, other, one]
