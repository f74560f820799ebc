"""Training on a cluster whose servers are away for a while: S3 with the runs, MLflow with the numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.cluster.lab import ServedLab
from tests.cluster.servers import Servers, away
from tests.faults.harness import FaultLab
from tests.faults.table import Table

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.root,
    pytest.mark.timeout(1200),
    pytest.mark.usefixtures("to_s3"),
]

AWAY_S = 60.0
SERVERS: dict[str, Callable[[Servers], object]] = {
    "S3, where the runs are,": lambda servers: away(servers.s3, AWAY_S),
    "MLflow's server": lambda servers: away(servers.mlflow, AWAY_S),
}


@pytest.mark.parametrize("which", SERVERS)
def test_a_server_is_away(lab: FaultLab, servers: Servers, table: Table, which: str) -> None:
    row = table.expect(f"{which} does not answer for {AWAY_S:.0f} s", "nothing")
    served = ServedLab.of(lab, servers, f"away-{list(SERVERS).index(which)}")
    attempt = served.disturb(lambda _: SERVERS[which](servers))
    assert attempt.process.returncode == 0, attempt.text
    table.same_bits(row, served, served.outcome(), "nothing")
