"""The DVC remote on a real S3 server: pushed, pulled, and an exchanged object refused."""

import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import BUCKET, Server
from tests.infra.conftest import INFRA, run

pytestmark = pytest.mark.slow


def dvc(folder: Path, *arguments: str) -> str:
    done = run("dvc", *arguments, cwd=folder, env=os.environ | {"DVC_NO_ANALYTICS": "1"})
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return done.stdout + done.stderr


def test_what_was_exchanged_on_the_remote_is_refused(s3: str, s3_server: Server, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    dvc(project, "init", "-q", "--no-scm")
    done = run(INFRA / "dvc" / "remote.sh", s3, s3_server.url, cwd=project)
    assert done.returncode == 0, done.stderr
    config = (project / ".dvc" / "config").read_text()
    assert "verify = true" in config
    assert "key" not in config

    (project / "model").write_text("weights")
    dvc(project, "add", "-q", "model")
    dvc(project, "push", "-q")
    forget(project)
    dvc(project, "pull", "-q")
    assert (project / "model").read_text() == "weights"

    keys = [one["Key"] for one in s3_server.client.list_objects_v2(Bucket=BUCKET, Prefix=s3.split("/")[-1])["Contents"]]
    assert len(keys) == 1
    s3_server.client.put_object(Bucket=BUCKET, Key=keys[0], Body=b"other weights")
    forget(project)
    with pytest.raises(RuntimeError):
        dvc(project, "pull", "-q")
    assert not (project / "model").exists()


def forget(project: Path) -> None:
    (project / "model").unlink()
    shutil.rmtree(project / ".dvc" / "cache")


def test_an_address_is_asked_for(tmp_path: Path) -> None:
    assert run(INFRA / "dvc" / "remote.sh", "bucket", cwd=tmp_path).returncode == 2
