"""PostgreSQL, and MLflow's server on it as its image runs it: real ones, for the length of a block."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import BUCKET, SECRET, Server

INFRA = Path(__file__).resolve().parents[2] / "infra"
PASSWORD = "a-password-of-some-length"


def tool(name: str) -> str:
    """The path of a program; the test is skipped where there is none."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not on PATH: `make test-infra`")
    return path


def run(*command: str | Path, **more: object) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, whatever that is."""
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, **more)  # type: ignore[call-overload, no-any-return]


def free_port(host: str = "127.0.0.1") -> int:
    with socket.create_server((host, 0)) as one:
        return int(one.getsockname()[1])


@dataclass(frozen=True)
class Postgres:
    """A running database server that anyone on this machine may use."""

    environment: dict[str, str]

    def psql(self, command: str, database: str = "postgres") -> str:
        done = run("psql", "-XAtc", command, env=os.environ | self.environment | {"PGDATABASE": database})
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@contextmanager
def running_postgres(folder: Path) -> Iterator[Postgres]:
    """PostgreSQL with an empty database `mlflow`."""
    for name in ("initdb", "pg_ctl", "psql", "pg_dump", "pg_restore"):
        tool(name)
    as_owner: Callable[..., list[str]] = lambda *command: list(command)  # noqa: E731
    if os.getuid() == 0:  # which PostgreSQL refuses
        for path in (folder, *list(folder.parents)[:2]):
            path.chmod(0o755)
        shutil.chown(folder, "postgres")
        as_owner = lambda *command: ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]  # noqa: E731
    port, data = free_port(), folder / "data"
    done = run(*as_owner("initdb", "-D", str(data), "-A", "trust", "-U", "mlflow", "--no-sync"), cwd=folder)
    assert done.returncode == 0, done.stderr
    options = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off"
    done = run(
        *as_owner("pg_ctl", "-D", str(data), "-l", str(folder / "log"), "-w", "-o", options, "start"), cwd=folder
    )
    assert done.returncode == 0, done.stderr
    try:
        server = Postgres({"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "mlflow"})
        server.psql("create database mlflow")
        yield server
    finally:
        run(*as_owner("pg_ctl", "-D", str(data), "-m", "immediate", "stop"), cwd=folder)


@dataclass(frozen=True)
class Mlflow:
    """A running server with an administrator."""

    url: str
    process: subprocess.Popen[bytes]

    @property
    def environment(self) -> dict[str, str]:
        """Of a process that is to find it, and may do anything there."""
        return {
            "MLFLOW_TRACKING_URI": self.url,
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": PASSWORD,
        }

    def signal(self, number: int) -> None:
        """To all its processes."""
        os.killpg(self.process.pid, number)


@contextmanager
def running_mlflow(postgres: Postgres, s3: Server, folder: Path, host: str = "127.0.0.1") -> Iterator[Mlflow]:
    """The server, with its artifacts on S3; the test is skipped without an environment for it."""
    venv = os.environ.get("INFRA_MLFLOW")
    if not venv:
        pytest.skip("INFRA_MLFLOW names no environment of infra/mlflow/requirements.lock: `make test-infra`")
    port = free_port(host)
    for name, content in {"password": PASSWORD, "s3": SECRET, "key": "k" * 40}.items():
        (folder / name).write_text(content + "\n")
    environment = {
        **postgres.environment,
        **s3.environment,
        "PATH": f"{venv}/bin:{os.environ['PATH']}",
        "HOME": str(folder),
        "PGDATABASE": "mlflow",
        "HOST": host,
        "PORT": str(port),
        "WORKERS": "1",
        "ARTIFACTS": f"s3://{BUCKET}/mlflow",
        "AWS_SECRET_ACCESS_KEY_FILE": str(folder / "s3"),
        "MLFLOW_AUTH_ADMIN_PASSWORD_FILE": str(folder / "password"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY_FILE": str(folder / "key"),
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"{host}:*",
    }
    del environment["AWS_SECRET_ACCESS_KEY"]
    log = folder / "log"
    with log.open("w") as file:
        command = [str(INFRA / "mlflow" / "mlflow.sh"), "serve"]
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=file, stderr=file, start_new_session=True
        )
    server = Mlflow(f"http://{host}:{port}", process)
    try:
        _wait_until_up(server, log)
        yield server
        assert not [secret for secret in (PASSWORD, SECRET) if secret in log.read_text()]
    finally:
        with suppress(ProcessLookupError):
            server.signal(signal.SIGKILL)
        process.wait()


def _wait_until_up(server: Mlflow, log: Path) -> None:
    for _ in range(360):
        with suppress(OSError):
            urllib.request.urlopen(f"{server.url}/health", timeout=5)
            return
        assert server.process.poll() is None, log.read_text()
        time.sleep(0.5)
    raise AssertionError(f"the server is not up in three minutes:\n{log.read_text()}")
