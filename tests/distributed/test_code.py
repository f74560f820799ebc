"""The code that a cluster is sent: the two packages, all that they need, and nothing else."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pipelines.cluster.code import JOB, PACKAGES, code_here, code_tags, runtime_environment, write_package
from pipelines.depot.tree import tree_of
from pipelines.project import workspace
from pipelines.settings import Settings


def test_all_of_the_two_packages_and_nothing_else_travels(tmp_path: Path) -> None:
    write_package(tmp_path / "code.zip")
    with zipfile.ZipFile(tmp_path / "code.zip") as package:
        package.extractall(tmp_path / "there")
    assert tree_of(tmp_path / "there") == code_here()
    tracked = ["git", "-C", str(workspace()), "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES]
    names = subprocess.run(tracked, check=True, capture_output=True, text=True).stdout.split()
    assert sorted(code_here().files) == sorted(name for name in names if (workspace() / name).exists())


@pytest.mark.slow
def test_it_is_all_that_a_worker_imports(tmp_path: Path) -> None:
    write_package(tmp_path / "code.zip")
    with zipfile.ZipFile(tmp_path / "code.zip") as package:
        package.extractall(tmp_path / "there")
    code = "import pipelines.cluster.loop, pipelines.cluster.worker, pipelines.measure.evaluating; print(pipelines)"
    there = tmp_path / "there"
    command = [sys.executable, "-c", code]
    said = subprocess.run(
        command, cwd=there, check=True, capture_output=True, text=True, env={"PYTHONPATH": str(there)}
    )
    assert str(there) in said.stdout


def test_equal_code_is_an_equal_package(tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        write_package(tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


VARIABLES = {"OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    ("of_the_job", "wanted"),
    [
        (None, {"working_dir": "code.zip", "env_vars": VARIABLES}),
        ({}, {"working_dir": "code.zip", "env_vars": VARIABLES}),
        ({"working_dir": "gcs://package.zip"}, {"env_vars": VARIABLES}),
        ({"working_dir": "gcs://package.zip", "env_vars": {"OMP_NUM_THREADS": "2", "A": "b"}}, {}),
        ({"env_vars": {"A": "b"}}, {"working_dir": "code.zip", "env_vars": VARIABLES}),
    ],
)
def test_what_a_job_has_is_not_named_again(
    of_the_job: dict[str, object] | None, wanted: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(JOB, raising=False)
    if of_the_job is not None:
        monkeypatch.setenv(JOB, json.dumps({"runtime_env": of_the_job, "metadata": {}}))
    assert runtime_environment(Path("code.zip"), VARIABLES) == wanted


def test_what_is_told_to_the_tracker() -> None:
    assert code_tags(Settings()) == {}
    assert code_tags(Settings(ray={"address": "head:6379"})) == {"code.shipped": code_here().digest}
