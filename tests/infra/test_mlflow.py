"""MLflow's server as its image runs it, on a real PostgreSQL and a real S3; backup and restoring."""

import base64
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import BUCKET, Server
from tests.infra.servers import INFRA, PASSWORD, Postgres, run, running_mlflow


def backup(postgres: Postgres, *arguments: str | Path, **environment: str) -> str:
    """The output of backup.sh."""
    variables = os.environ | postgres.environment | {"PGDATABASE": "mlflow"} | environment
    done = run(INFRA / "mlflow" / "backup.sh", *arguments, env=variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_dump_restores_what_was_there(postgres: Postgres, tmp_path: Path) -> None:
    postgres.psql("create database source")
    postgres.psql("create database target")
    postgres.psql("create table numbers as select generate_series(1, 1000) as n", "source")
    for name in ("mlflow-20200101T000000Z.dump", "mlflow-20200102T000000Z.dump", "other.txt"):
        (tmp_path / name).touch()
    saved = Path(backup(postgres, "save", tmp_path, PGDATABASE="source", KEEP="2").split()[-1])
    assert saved.stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow-20200102T000000Z.dump", saved.name, "other.txt"]
    backup(postgres, "restore", saved, PGDATABASE="target")
    assert postgres.psql("select sum(n) from numbers", "target") == "500500"


@pytest.fixture
def server(postgres: Postgres, s3_server: Server, tmp_path: Path) -> Iterator[str]:
    """The address of a server with an administrator."""
    with running_mlflow(postgres, s3_server, tmp_path) as server:
        yield server.url


def migrated(postgres: Postgres, folder: Path) -> str:
    """What bringing tables up to date says that are there."""
    environment = os.environ | postgres.environment | {"PGDATABASE": "mlflow"}
    environment["PATH"] = f"{os.environ['INFRA_MLFLOW']}/bin:{os.environ['PATH']}"
    done = run(INFRA / "mlflow" / "mlflow.sh", "migrate", env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stderr


def ask(url: str, content: dict[str, object], password: str | None = PASSWORD, **headers: str) -> tuple[int, str]:
    """Status and body of a request with a JSON body."""
    if password:
        headers["Authorization"] = "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()
    request = urllib.request.Request(url, json.dumps(content).encode(), {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.slow
def test_the_server_asks_for_a_password_and_keeps_what_it_is_told(
    server: str, postgres: Postgres, s3_server: Server, tmp_path: Path
) -> None:
    create = f"{server}/api/2.0/mlflow/experiments/create"
    assert ask(create, {"name": "one"}, password=None)[0] == 401
    assert ask(create, {"name": "one"}, password="wrong")[0] == 401
    assert ask(create, {"name": "one"}, Host="evil.example.com")[0] == 403
    status, answer = ask(create, {"name": "one"})
    assert status == 200, answer
    experiment = json.loads(answer)["experiment_id"]
    assert postgres.psql("select name from experiments order by 1 desc limit 1", "mlflow") == "one"

    _, answer = ask(f"{server}/api/2.0/mlflow/runs/create", {"experiment_id": experiment})
    run_id = json.loads(answer)["run"]["info"]["run_id"]
    put = urllib.request.Request(
        f"{server}/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run_id}/artifacts/a.txt",
        b"content",
        {"Authorization": "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()},
        method="PUT",
    )
    assert urllib.request.urlopen(put, timeout=60).status == 200
    key = f"mlflow/{experiment}/{run_id}/artifacts/a.txt"
    assert s3_server.client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"content"

    saved = backup(postgres, "save", tmp_path).split()[-1]
    postgres.psql("create database restored")
    assert "Updating database tables" in migrated(postgres, tmp_path)
    backup(postgres, "restore", saved, PGDATABASE="restored")
    for question in (
        "select count(*) from runs",
        "select version_num from alembic_version",
        "select username from users",
    ):
        assert postgres.psql(question, "restored") == postgres.psql(question, "mlflow") != "0"
