"""Which DVC remotes outlive a submitted pipeline, by the configuration of a commit."""

from __future__ import annotations

import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import ParamsError
from pipelines.remote.dvc_remote import check_remote, remote_of
from pipelines.settings import JobSettings, Settings

BUCKET, ON_BUCKET = "s3://bucket/dvc", "[core]\nremote = Store\n['remote \"store\"']\nurl = s3://bucket/dvc\n"
ALL = {"local", "ray", "slurm", "kuberay"}


def committed(folder: Path, config: str) -> str:
    """A commit with that .dvc/config; the one that lies in the folder is another."""
    file = folder / ".dvc/config"
    file.parent.mkdir(exist_ok=True)
    file.write_text(config)
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    for words in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "--allow-empty", "-m", "a remote"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    file.write_text("[core]\nremote = other\n")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
    return head.stdout.strip()


@pytest.mark.parametrize(
    ("url", "taken_by"),
    [
        (BUCKET, ALL),
        ("ssh://host/store", ALL),
        ("remote://base/below", ALL),
        ("/data/store", {"local", "slurm"}),
        ("file:///data/store", {"local", "slurm"}),
        ("../store", set()),
        ("remote://folder/below", set()),
    ],
)
def test_a_folder_is_taken_where_the_job_sees_it(url: str, taken_by: set[str], tmp_path: Path) -> None:
    others = f"['remote \"base\"']\nurl = {BUCKET}\n['remote \"folder\"']\nurl = store\n"
    commit = committed(tmp_path, ON_BUCKET.replace(BUCKET, url) + others)
    for backend in sorted(ALL):
        settings: Any = Settings(jobs=JobSettings(backend=backend))
        words = rf"commit {commit[:12]} is .*{url.rpartition('/')[2]}.*it must be a server's"
        with nullcontext() if backend in taken_by else pytest.raises(ParamsError, match=words):
            check_remote(tmp_path, commit, settings)


@pytest.mark.parametrize(
    "config", ["", "[core]\nanalytics = false\n", "# remote = store\n['remote \"store\"']\nurl = s3://b\n"]
)
def test_a_commit_without_a_default_remote_is_refused(config: str, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"no default DVC remote.*remote\.sh s3://"):
        check_remote(tmp_path, committed(tmp_path, config), Settings())


def test_it_is_the_commits_own(tmp_path: Path) -> None:
    assert remote_of(tmp_path, committed(tmp_path, ON_BUCKET)) == BUCKET


@pytest.mark.parametrize(
    ("config", "why"),
    [("[core\n", "config file error"), ("[core]\nremote = a\n", "'a' doesn't"), (ON_BUCKET.replace("url", "b"), "url")],
)
def test_a_file_that_dvc_does_not_understand_is_refused(config: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=rf"\.dvc/config of commit .*{why}.*remote\.sh"):
        remote_of(tmp_path, committed(tmp_path, config))
