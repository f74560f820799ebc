"""A small folder, a depot in a folder and one on S3, and a cache of the test's own."""

from pathlib import Path

import pytest

from pipelines.depot.depot import Depot
from pipelines.depot.local import LocalDepot
from pipelines.depot.s3 import S3Depot
from tests.pipelines.depot.raw import Raw

FILES = {"model.json": b"{}", "deep/er/weights.bin": bytes(range(256)) * 999, "empty": b"", "twice": b"{}"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIPELINES_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with `FILES`."""
    for name, content in FILES.items():
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "folder"


@pytest.fixture(params=["local", "s3"])
def depot(request: pytest.FixtureRequest) -> Depot:
    """Both kinds; nothing is in it."""
    return request.getfixturevalue(f"{request.param}_depot")


@pytest.fixture
def local_depot(tmp_path: Path) -> LocalDepot:
    return LocalDepot(tmp_path / "depot")


@pytest.fixture
def s3_depot(s3: str) -> S3Depot:
    return S3Depot(f"{s3}/depot")


@pytest.fixture
def raw(depot: Depot) -> Raw:
    """What is in it, behind its back."""
    return Raw(depot.uri)
