"""The settings that a stage has in its job: those of whoever asked, and of the machines."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipelines.depot.local import LocalDepot
from pipelines.depot.ref import put_folder
from pipelines.remote.request import Request
from pipelines.remote.run import lay_out, run_stage

STAGE = """
from pathlib import Path
from pipelines.settings import load_settings
Path("settings").write_text(load_settings().model_dump_json())
"""
CLUSTER = {
    "PIPELINES__STORAGE__URI": "s3://of-the-cluster/runs",
    "PIPELINES__TRACKING__URI": "http://first.of-the-cluster:5000",
    "MLFLOW_TRACKING_URI": "http://of-the-cluster:5000",
    "PIPELINES__RAY__CPUS_PER_WORKER": "4",
}


def settings_in_the_job(
    errand_project: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> Any:
    """What a stage reads there, on a machine with the environment of the cluster."""
    monkeypatch.setenv("PIPELINES_CACHE", str(folder / "cache"))
    for name in [name for name in os.environ if name in ("DVC_ROOT", "PYTHONPATH")]:
        monkeypatch.delenv(name)
    for name, value in CLUSTER.items():
        monkeypatch.setenv(name, value)
    code = put_folder(LocalDepot(folder / "depot"), errand_project)
    request = Request("reference", "0" * 16, {}, code, {}, settings, {}, 60, source="a", place="here")
    lay_out(request, folder / "project")
    (folder / "project/pipelines/reference.py").write_text(STAGE)
    ended = run_stage(request, folder / "project")
    assert ended.exit_status == 0, ended.lines
    return json.loads((folder / "project/settings").read_text())


def test_state_and_numbers_go_where_whoever_asked_looks_for_them(
    errand_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = {"storage": {"uri": "s3://mine/runs"}, "tracking": {"uri": "https://mine:5000"}, "ray": {"workers": 2}}
    there = settings_in_the_job(errand_project, tmp_path, monkeypatch, mine)
    assert (there["storage"]["uri"], there["tracking"]["uri"]) == ("s3://mine/runs", "https://mine:5000")
    assert (there["ray"]["workers"], there["ray"]["cpus_per_worker"]) == (2, 4)


@pytest.mark.parametrize("tracking", [None, "http://localhost:5000"])
def test_a_server_that_the_job_would_not_reach_by_that_address(
    errand_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracking: str | None
) -> None:
    """As through a tunnel. The machines know their own way to it."""
    mine = {"storage": {"uri": "s3://mine/runs"}, "tracking": {"uri": tracking}}
    there = settings_in_the_job(errand_project, tmp_path, monkeypatch, mine)
    assert (there["storage"]["uri"], there["tracking"]["uri"]) == ("s3://mine/runs", "http://of-the-cluster:5000")
