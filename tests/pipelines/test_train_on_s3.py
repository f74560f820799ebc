"""The train stage with its runs on S3."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from pipelines import train as stage
from pipelines.cluster import trainer
from pipelines.cluster.job import Job
from pipelines.errors import RunLocked
from pipelines.report.progress import RELAY
from pipelines.runs import lease
from pipelines.runs.cell import Cell
from pipelines.runs.lease import Lease
from pipelines.runs.lock import RUN, run_lock
from pipelines.runs.s3 import S3Store
from pipelines.settings import CheckpointSettings, Settings, StorageSettings
from tests.conftest import SECRET
from tests.pipelines import test_train
from tests.pipelines.test_train import Project, content, digest, params

prepared, project = test_train.prepared, test_train.project  # the fixtures


@pytest.mark.slow
def test_runs_on_s3_give_the_same_model(project: Project, s3: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing that the stage leaves or says holds the credentials."""
    stage.main()
    local = digest(project.results("train"))
    project.settings = Settings(storage=StorageSettings(uri=s3), checkpoint=CheckpointSettings(every_steps=2))
    project.params = params(train={"steps": 4})
    stage.main()
    project.params = params()
    stage.main()
    assert digest(project.results("train")) == local
    assert project.trainings == 3
    job = stage.make_job(project.params, project.settings, project.prepared)
    assert job.run == S3Store(f"{s3}/{job.key}")
    assert sorted(job.run.names()) == ["step-00000004-final", "step-00000006-final"]
    left = content(project.results("train"))
    said = capfd.readouterr()
    told = said.out + said.err + json.dumps(project.tracked.facts) + repr(job)
    assert f"checkpoints in {s3}" in told
    assert SECRET not in told
    assert not any(SECRET.encode() in each for each in left.values())
    with run_lock(job.run), pytest.raises(RunLocked, match=f"the run in {s3}/{job.key} is being worked on by process"):
        stage.main()


def test_a_run_that_was_taken_over_leaves_no_model(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it came to its end. No server is needed for it."""

    def losing(job: Job, settings: Settings, hear: Callable[[Any], None]) -> None:
        project.train(job, settings, hear)
        lost = Lease(Cell("bucket", "run/lock.json", ttl_s=30), RUN, str(job.run))
        lost.lost_to = "process 5 on elsewhere"
        monkeypatch.setitem(lease._held, str(job.run), [lost])

    monkeypatch.setattr(trainer, "train", losing)
    with pytest.raises(RunLocked, match="was taken over by process 5 on elsewhere"):
        stage.main()
    assert not project.results("train").exists()


def test_a_job_waits_for_the_one_before_it(project: Project, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its processes may still save where its machine was lost."""
    monkeypatch.setenv(RELAY, "told")
    project.settings = Settings(storage=StorageSettings(uri=s3))
    job = stage.make_job(project.params, project.settings, project.prepared)
    with ExitStack() as before:
        before.enter_context(run_lock(job.run))
        threading.Timer(0.5, before.close).start()
        stage.main()
    assert project.results("train").exists()
