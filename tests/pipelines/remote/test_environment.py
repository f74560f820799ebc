"""What the commands that run in a clone are told by their environment."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipelines.cluster.code import JOB, runtime_environment
from pipelines.project import workspace
from pipelines.remote.environment import environment_of_clone


def told(monkeypatch: pytest.MonkeyPatch, of_the_job: dict[str, Any]) -> dict[str, Any]:
    """What Ray is told of a job's workers in the clone."""
    monkeypatch.setenv(JOB, json.dumps(of_the_job))
    job: dict[str, Any] = json.loads(environment_of_clone({})[JOB])
    return job


def test_workers_are_sent_the_code_of_the_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    """All else that the job brought along they have as before."""
    others = {"env_vars": {"A": "b"}, "pip": {"packages": ["sheep"]}}
    job = {"runtime_env": {"working_dir": "gcs://package.zip", **others}, "metadata": {"job_submission_id": "one"}}
    there = told(monkeypatch, job)
    assert there == {"runtime_env": others, "metadata": {"job_submission_id": "one"}}
    monkeypatch.setenv(JOB, json.dumps(there))
    assert runtime_environment(Path("code.zip"), {})["working_dir"] == "code.zip"


def test_a_job_that_brought_nothing_along(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, {"metadata": {}}) == {"runtime_env": {}, "metadata": {}}
    monkeypatch.delenv(JOB)
    assert JOB not in environment_of_clone({})


def test_no_program_imports_the_jobs_own_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ray puts a job's working directory first on PYTHONPATH."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(workspace()), str(tmp_path)]))
    assert environment_of_clone({})["PYTHONPATH"] == str(tmp_path)


def test_of_dvcs_variables_those_stay_that_name_its_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    folders, of_a_stage = {"DVC_SITE_CACHE_DIR", "DVC_GLOBAL_CONFIG_DIR"}, {"DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME"}
    for name in folders | of_a_stage:
        monkeypatch.setenv(name, "/there")
    assert set(environment_of_clone({})) & (folders | of_a_stage) == folders


def test_the_settings_of_the_one_who_asked_win_except_for_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINES__TRACKING__URI", "http://of-the-machine")
    monkeypatch.setenv("PIPELINES__JOBS__BACKEND", "slurm")
    there = environment_of_clone({"PIPELINES__TRACKING__URI": "http://asked-for"})
    assert there["PIPELINES__TRACKING__URI"] == "http://asked-for"
    assert {name: value for name, value in there.items() if "JOBS" in name} == {"PIPELINES__JOBS__STAGES": "[]"}
