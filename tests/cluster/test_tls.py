"""Two machines that speak TLS with each other: a training goes on there, and who has no certificate is refused."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.lab import on_cluster
from tests.cluster.network import Network
from tests.cluster.nodes import Cluster
from tests.end_to_end.project import Project
from tests.faults.harness import FaultLab
from tests.faults.table import Table
from tests.infra.servers import INFRA

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(900)]
WITHOUT = {"RAY_USE_TLS": "0"}


@pytest.fixture(scope="module")
def tls_cluster(root_and_programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """On a network of its own: a head without CPUs, and a machine with two."""
    folder = tmp_path_factory.mktemp("tls-cluster")
    with Network() as network:
        cluster = Cluster(network, folder, certificates(folder / "tls", network.addresses(2)))
        try:
            cluster.start("head", cpus=0)
            cluster.settle()
            cluster.start("node-1", cpus=2)
            cluster.settle()
            yield cluster
        finally:
            cluster.close()


def certificates(folder: Path, addresses: list[str]) -> dict[str, str]:
    """One for all machines, and the environment that leads to it."""
    subprocess.run([INFRA / "tls" / "make-certificates.sh", folder, *addresses], check=True, capture_output=True)
    return {
        "RAY_USE_TLS": "1",
        "RAY_TLS_CA_CERT": str(folder / "ca.crt"),
        "RAY_TLS_SERVER_CERT": str(folder / "tls.crt"),
        "RAY_TLS_SERVER_KEY": str(folder / "tls.key"),
    }


@pytest.fixture
def tls_lab(base: Project, tls_cluster: Cluster, tmp_path: Path) -> Iterator[FaultLab]:
    lab = on_cluster(tls_cluster, base, tmp_path / "project")
    lab.settings = {**lab.settings, "PIPELINES__RAY__WORKERS": "2"}
    yield lab
    for attempt in lab.attempts:
        lab.clear(attempt)


def test_a_training_over_tls(tls_lab: FaultLab, table: Table) -> None:
    row = table.expect("2 machines that speak TLS", "nothing")
    table.same_bits(row, tls_lab, tls_lab.finish(), "nothing")


def test_a_stage_without_a_certificate_is_refused(tls_lab: FaultLab, table: Table) -> None:
    row = table.expect("a stage without a certificate", "refused")
    began = time.monotonic()
    attempt = tls_lab.start(**WITHOUT)
    assert attempt.end() == 1, attempt.text
    took = time.monotonic() - began
    row.seen = f"refused after {took:.0f} s"
    assert "as one that speaks TLS: set RAY_USE_TLS=1" in attempt.text
    assert took < 60
