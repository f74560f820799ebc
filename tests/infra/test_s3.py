"""The small S3 store of infra/mlflow/compose.yaml, as its container starts it."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.infra.conftest import INFRA, free_port, run, tool


@pytest.fixture
def store(tmp_path: Path) -> Iterator[str]:
    """Its address; the keys are in tmp_path/secrets."""
    tool("rclone")
    assert run(INFRA / "mlflow" / "make-secrets.sh", tmp_path / "secrets").returncode == 0
    port = free_port()
    environment = os.environ | {
        "SECRETS": str(tmp_path / "secrets"),
        "S3_DATA": str(tmp_path / "data"),
        "S3_ADDRESS": f"127.0.0.1:{port}",
    }
    process = subprocess.Popen([str(INFRA / "mlflow" / "s3.sh")], env=environment, stderr=subprocess.DEVNULL)
    try:
        for _ in range(240):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None
            time.sleep(0.25)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def client(url: str, secret: str) -> Any:
    import boto3

    names = {"aws_access_key_id": "mlflow", "aws_secret_access_key": secret, "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=url, **names)


def test_it_keeps_objects_for_who_has_the_key(store: str, tmp_path: Path) -> None:
    from botocore.exceptions import ClientError

    secret = (tmp_path / "secrets" / "s3-secret-key").read_text()
    mine = client(store, secret)
    mine.put_object(Bucket="mlflow", Key="artifacts/a.txt", Body=b"content")
    assert (tmp_path / "data" / "mlflow" / "artifacts" / "a.txt").read_bytes() == b"content"
    with pytest.raises(ClientError, match=r"SignatureDoesNotMatch|AccessDenied"):
        client(store, "another").get_object(Bucket="mlflow", Key="artifacts/a.txt")


def test_secrets_are_made_once_for_their_owner_alone(tmp_path: Path) -> None:
    for _ in range(2):
        assert run(INFRA / "mlflow" / "make-secrets.sh", tmp_path / "secrets").returncode == 0
        found = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
        assert len(found) == 5
        if (tmp_path / "first").exists():
            assert (tmp_path / "first").read_text() == found["admin-password"]
        (tmp_path / "first").write_text(found["admin-password"])
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "secrets").iterdir()} == {0}
    assert len(found["admin-password"]) == 64
    assert len(set(found.values())) == 5
