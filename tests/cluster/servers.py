"""What a cluster's machines find outside: S3, and MLflow's server on PostgreSQL with its artifacts there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGCONT, SIGSTOP

from tests.conftest import Server
from tests.infra.servers import Mlflow, Postgres, running_mlflow, running_postgres


@dataclass(frozen=True)
class Servers:
    """Each in processes of its own."""

    s3: Server
    postgres: Postgres
    mlflow: Mlflow


@contextmanager
def running_servers(s3: Server, host: str, new_folder: Callable[[str], Path]) -> Iterator[Servers]:
    """Beside a running S3 the other two; MLflow listens on `host`."""
    with (
        running_postgres(new_folder("postgres")) as postgres,
        running_mlflow(postgres, s3, new_folder("mlflow"), host) as mlflow,
    ):
        yield Servers(s3, postgres, mlflow)


def away(server: Server | Mlflow, seconds: float) -> None:
    """It answers nobody for so long, and then goes on as if nothing were."""
    server.signal(SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        server.signal(SIGCONT)
