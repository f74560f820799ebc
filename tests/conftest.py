"""A real S3 server for the tests that want one: moto_server, in its own process, found on PATH."""

import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress

import pytest

BUCKET = "runs"
SECRET = "a-key-that-nobody-may-see"


class Server:
    """A server that can be stopped, frozen and asked."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        import boto3  # of all tests only those of S3 wait for it

        with socket.socket() as free:
            free.bind((host, 0))
            self.host, self.port = free.getsockname()
        self.url = f"http://{host}:{self.port}"
        command = ["moto_server", "-H", host, "-p", str(self.port)]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)
        self._wait_until_up()
        self.client = boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id="test", aws_secret_access_key=SECRET, region_name="us-east-1"
        )
        self.client.create_bucket(Bucket=BUCKET)

    @property
    def environment(self) -> dict[str, str]:
        """Of a process that is to find it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def _wait_until_up(self) -> None:
        for _ in range(600):
            with suppress(OSError), socket.create_connection((self.host, self.port), 1):
                return
            time.sleep(0.1)
        raise RuntimeError("moto_server did not start within a minute")

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def stop(self) -> None:
        self.client.close()
        with suppress(ProcessLookupError):  # a test has stopped it
            self.signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Server]:
    """One for all tests."""
    yield from _server()


@pytest.fixture
def own_s3_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """One to be stopped or frozen by a test; the environment leads to it."""
    for server in _server():
        lead_to(server, monkeypatch)
        yield server


@pytest.fixture
def s3(s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """An address that no other test uses; the environment leads to its server."""
    lead_to(s3_server, monkeypatch)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


def lead_to(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


def _server() -> Iterator[Server]:
    if shutil.which("moto_server") is None:
        pytest.skip("moto_server is not on PATH: `pip install moto[server]` in an environment of its own")
    server = Server()
    try:
        yield server
    finally:
        server.stop()
