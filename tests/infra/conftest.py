"""The manifests of infra/. A validator that is not on PATH skips its tests; `make test-infra` brings them all."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.infra.servers import INFRA, Postgres, free_port, run, running_postgres, tool

__all__ = ["INFRA", "ROOT", "SHARED", "Postgres", "free_port", "run", "tool"]

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "schemas"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """PostgreSQL with an empty database `mlflow`."""
    with running_postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server
