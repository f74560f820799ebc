"""One cluster for all tests, the undisturbed run on one machine to compare with, and the table at the end.

What is missing is the reason for skipping.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.lab import WORKERS, on_cluster
from tests.cluster.network import Network
from tests.cluster.nodes import Cluster
from tests.cluster.servers import Servers, running_servers
from tests.conftest import Server, lead_to
from tests.end_to_end.project import Project
from tests.faults.harness import FaultLab, template
from tests.faults.table import Calm, Row, Table, write_table
from tests.infra.servers import PASSWORD

PROGRAMS = ("ip", "tc", "unshare", "nsenter", "setpriv")

_rows: list[Row] = []


@pytest.fixture(scope="session")
def root_and_programs() -> None:
    """Skips where hosts cannot be made."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"not on PATH: {', '.join(missing)} (Debian: iproute2, util-linux)")


@pytest.fixture(scope="session")
def network(root_and_programs: None) -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture(scope="session")
def s3_outside(network: Network) -> Iterator[Server | None]:
    """A server on this machine's address; None where there is none on PATH."""
    if shutil.which("moto_server") is None:
        yield None
        return
    server = Server(network.outside)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def cluster(network: Network, s3_outside: Server | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Its head counts no CPUs: workers are elsewhere. All machines have the keys of S3 and of MLflow's server."""
    keys = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": PASSWORD, "RAY_JOB_STOP_WAIT_TIME_S": "60"}
    keys |= s3_outside.environment if s3_outside else {}
    cluster = Cluster(network, tmp_path_factory.mktemp("cluster"), keys)
    try:
        cluster.start("head", cpus=0)
        cluster.settle()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="session")
def servers(network: Network, s3_outside: Server | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """S3, PostgreSQL and MLflow, outside of the cluster."""
    if s3_outside is None:
        pytest.skip("moto_server is not on PATH: `pip install moto[server]` in an environment of its own")
    with running_servers(s3_outside, network.outside, tmp_path_factory.mktemp) as servers:
        yield servers


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return template(tmp_path_factory.mktemp("cluster-project") / "template")


@pytest.fixture(scope="session")
def calm(base: Project, tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """Two workers on this machine."""
    return Calm.of(base, tmp_path_factory.mktemp("calm") / "project")


@pytest.fixture
def lab(base: Project, calm: Calm, cluster: Cluster, tmp_path: Path) -> Iterator[FaultLab]:
    """A project of its own, and all machines on."""
    cluster.scale(WORKERS)
    lab = on_cluster(cluster, base, tmp_path / "project")
    yield lab
    for attempt in lab.attempts:
        lab.clear(attempt)


@pytest.fixture
def to_s3(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process's environment leads to S3."""
    lead_to(servers.s3, monkeypatch)


@pytest.fixture
def table(calm: Calm) -> Table:
    return Table(calm, _rows)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table, in Markdown."""
    write_table(_rows, terminalreporter.write_line)
