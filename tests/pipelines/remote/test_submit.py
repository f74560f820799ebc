"""A commit's pipeline as a job: from a bare repository to a DVC remote and a branch with dvc.lock."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import submit
from pipelines.depot.local import LocalDepot
from pipelines.errors import ParamsError
from pipelines.remote.request import Request
from pipelines.settings import JobSettings, RaySettings, Settings, TrackingSettings
from tests.end_to_end.project import TINY, Project

IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@localhost")


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Bare, with two commits on main."""
    work = tmp_path / "work"
    work.mkdir()
    git(work, "init", "-q", "-b", "main")
    for text in ("one", "two"):
        (work / "file").write_text(text)
        git(work, "add", "-A")
        git(work, *IDENTITY, "commit", "-qm", text)
    git(tmp_path, "clone", "-q", "--bare", "work", "bare.git")
    return tmp_path / "bare.git"


def test_dvc_lock_is_committed_on_a_branch_without_a_working_tree(repository: Path) -> None:
    main = git(repository, "rev-parse", "main")
    made = submit.commit_lock(repository, main, "results", b"lock 1")
    assert git(repository, "rev-parse", "results") == made
    assert git(repository, "log", "-1", "--format=%P", "results") == main
    assert git(repository, "ls-tree", "--name-only", "results").split() == ["dvc.lock", "file"]
    assert git(repository, "show", "results:dvc.lock") == "lock 1"
    assert git(repository, "rev-parse", "main") == main


def test_a_branch_with_results_of_its_own_keeps_them_in_its_history(repository: Path) -> None:
    old, main = git(repository, "rev-parse", "main~1"), git(repository, "rev-parse", "main")
    first = submit.commit_lock(repository, old, "results", b"lock 1")
    submit.commit_lock(repository, main, "results", b"lock 2")
    assert git(repository, "log", "-1", "--format=%P", "results").split() == [main, first]
    assert git(repository, "show", "results:dvc.lock") == "lock 2"
    assert git(repository, "show", "results:file") == "two"


def test_main_itself_moves_on(repository: Path) -> None:
    main = git(repository, "rev-parse", "main")
    submit.commit_lock(repository, main, "main", b"lock")
    assert git(repository, "log", "-1", "--format=%P", "main") == main


def test_a_branch_that_is_checked_out_is_refused(repository: Path) -> None:
    with pytest.raises(ParamsError, match="is checked out"):
        submit.check_branch(repository.with_name("work"), "main")
    submit.check_branch(repository, "main")
    with pytest.raises(ParamsError, match="no branch of that name"):
        submit.check_branch(repository, "a..b")


def test_a_commit_must_be_there(repository: Path) -> None:
    with pytest.raises(ParamsError, match="no such commit"):
        submit.commit_of(repository, "nowhere")


def test_a_commit_without_a_remote_is_refused(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINES__JOBS__BACKEND", "local")
    monkeypatch.setattr(sys, "argv", ["submit", "--repo", str(repository), "--rev", "main"])
    with pytest.raises(ParamsError, match="no default DVC remote"):
        submit.main()


def test_a_shallow_clone_is_refused(repository: Path) -> None:
    shallow = repository.with_name("shallow")
    git(repository.parent, "clone", "-q", "--depth", "1", repository.as_uri(), str(shallow))
    with pytest.raises(ParamsError, match="git fetch --unshallow"):
        submit.commit_of(shallow, "HEAD")


def test_a_server_that_only_this_machine_reaches_is_refused_for_other_machines() -> None:
    def settings(jobs: JobSettings, host: str) -> Settings:
        ray = RaySettings(address=None if jobs.backend else "http://head:8265")
        return Settings(jobs=jobs, ray=ray, tracking=TrackingSettings(uri=f"http://{host}:5000"))

    for host in ("127.0.0.1", "localhost", "[::1]"):
        for jobs in (JobSettings(), JobSettings(backend="slurm"), JobSettings(backend="kuberay")):
            with pytest.raises(ParamsError, match="by which the cluster reaches"):
                submit.settings_as_environment(settings(jobs, host))
        assert submit.settings_as_environment(settings(JobSettings(backend="local"), host))
    environment = submit.settings_as_environment(settings(JobSettings(), "mlflow.example.com"))
    assert environment["PIPELINES__TRACKING__URI"] == environment["MLFLOW_TRACKING_URI"]


def test_a_pipeline_for_another_registry_is_the_same_work_with_another_outcome(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINES_CACHE", str(tmp_path / "cache"))
    depot, main = LocalDepot(tmp_path / "depot"), git(repository, "rev-parse", "main")

    def asked(host: str, *targets: str) -> Request:
        settings = Settings(jobs=JobSettings(backend="local"), tracking=TrackingSettings(uri=f"http://{host}"))
        return submit.request_of(repository, main, list(targets), settings, depot, "here")

    one, same, other = asked("one"), asked("one"), asked("other")
    assert one.outcome == same.outcome != other.outcome
    assert one.key == other.key != asked("one", "train").key


@pytest.fixture
def here(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone that is the workspace."""
    here = repository.with_name("work")
    monkeypatch.setattr(submit, "workspace", lambda: here)
    return here


def test_dvc_lock_of_the_commit_that_is_checked_out_comes_here(here: Path) -> None:
    for content in (b"lock 1", b"lock 2"):
        head = git(here, "rev-parse", "HEAD")
        submit.check_lock(head)
        submit.place_lock(head, content)
        assert (here / "dvc.lock").read_bytes() == content
        git(here, "add", "-A")
        git(here, *IDENTITY, "commit", "-qm", "results")
    assert sorted(path.name for path in here.iterdir()) == [".git", "dvc.lock", "file"]


def test_dvc_lock_of_another_commit_is_refused(here: Path) -> None:
    with pytest.raises(ParamsError, match=r"checked out here is .*--commit-to"):
        submit.check_lock(git(here, "rev-parse", "HEAD~1"))


def test_a_dvc_lock_that_is_not_committed_stays(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head, lock = git(here, "rev-parse", "HEAD"), here / "dvc.lock"
    lock.write_text("mine")
    with pytest.raises(ParamsError, match=r"changes that are not committed.*--commit-to"):
        submit.check_lock(head)
    submit.place_lock(head, b"theirs")
    assert (lock.read_text(), lock.with_name("dvc.lock.submitted").read_text()) == ("mine", "theirs")
    assert "dvc.lock.submitted" in capsys.readouterr().out


@pytest.mark.slow
def test_from_a_bare_repository_to_a_remote(tmp_path: Path) -> None:
    """One stage, with an MLflow server that is away: its numbers come back with the job."""
    folder = tmp_path / "project"
    folder.mkdir()
    project = Project.clone(folder)
    project.set(**TINY)
    project.run("dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "remote"))
    project.commit("a remote")
    git(tmp_path, "clone", "-q", "--bare", "project", "bare.git")
    commit = git(folder, "rev-parse", "HEAD")
    shutil.rmtree(folder / ".git")
    environment = project.environment() | {
        "PIPELINES__JOBS__BACKEND": "local",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
        "PIPELINES__TRACKING__RETRIES": "0",
        "PIPELINES_CACHE": str(tmp_path / "cache"),
        "TMPDIR": str(tmp_path / "tmp"),
    }
    (tmp_path / "tmp").mkdir()

    def submitted(*words: str, status: int = 0) -> str:
        command = [
            sys.executable,
            "-m",
            "pipelines.submit",
            "--repo",
            str(tmp_path / "bare.git"),
            "--rev",
            "main",
            *words,
        ]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    said = submitted("--commit-to", "results", "prepare")
    assert "done, and pushed" in said
    lock = git(tmp_path / "bare.git", "show", "results:dvc.lock")
    assert "prepare:" in lock
    assert git(tmp_path / "bare.git", "log", "-1", "--format=%P", "results") == commit
    assert list((tmp_path / "remote").rglob("*.dir")), "nothing was pushed"
    assert list((folder / ".state/spool").glob("prepare-*.jsonl")), "the numbers are lost"
    assert not list((tmp_path / "tmp").iterdir())
    assert "has done this before" in submitted("--commit-to", "again", "prepare")
    assert git(tmp_path / "bare.git", "show", "again:dvc.lock") == lock
    assert "--commit-to" in submitted("prepare", status=1)
    failed = submitted("--commit-to", "never", "nowhere", status=255)
    assert "nowhere" in failed
