"""The manifests of infra/. A validator that is not on PATH skips its tests; `make test-infra` brings them all."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
SHARED = ROOT.parent / "shared" / "schemas"


def tool(name: str) -> str:
    """The path of a program; the test is skipped where there is none."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not on PATH: `make test-infra`")
    return path


def run(*command: str | Path, **more: object) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, whatever that is."""
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, **more)  # type: ignore[call-overload, no-any-return]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@dataclass(frozen=True)
class Postgres:
    """A running database server that anyone on this machine may use."""

    environment: dict[str, str]

    def psql(self, command: str, database: str = "postgres") -> str:
        done = run("psql", "-XAtc", command, env=os.environ | self.environment | {"PGDATABASE": database})
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """PostgreSQL with an empty database `mlflow`."""
    for name in ("initdb", "pg_ctl", "psql", "pg_dump", "pg_restore"):
        tool(name)
    folder = tmp_path_factory.mktemp("postgres")
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
