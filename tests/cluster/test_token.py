"""Who has no token, or another one, gets a clear answer soon, and no token is printed."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request

import pytest

from tests.cluster.nodes import Cluster
from tests.faults.harness import FaultLab
from tests.faults.table import Table

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(900)]

OTHER = "0123456789abcdef" * 4
STAGES = {
    "no token": ({"RAY_AUTH_MODE": "", "RAY_AUTH_TOKEN": ""}, "no token is set"),
    "another token": ({"RAY_AUTH_TOKEN": OTHER}, "does not answer"),
}


@pytest.mark.parametrize("given", STAGES)
def test_a_stage_is_refused(lab: FaultLab, cluster: Cluster, table: Table, given: str) -> None:
    environment, told = STAGES[given]
    row = table.expect(f"a stage with {given}", "refused")
    began = time.monotonic()
    attempt = lab.start(**environment)
    assert attempt.end() == 1, attempt.text
    took = time.monotonic() - began
    row.seen = f"refused after {took:.0f} s: {told!r}"
    assert told in attempt.text
    assert "RAY_AUTH_TOKEN" in attempt.text
    assert not [token for token in (cluster.token, OTHER) if token in attempt.text]
    assert took < 90


def test_a_machine_with_another_token_does_not_join(lab: FaultLab, cluster: Cluster, table: Table) -> None:
    row = table.expect("a machine with another token", "does not join")
    stranger = cluster.start("stranger", token=OTHER)
    try:
        for _ in range(60):
            if not stranger.alive:
                break
            assert stranger.host.address not in cluster.known()
            time.sleep(1)
        row.seen = f"did not join; its `ray start` {'goes on trying' if stranger.alive else 'ended'}"
        said = stranger.log.read_text()
        assert not [token for token in (cluster.token, OTHER) if token in said]
    finally:
        stranger.kill()


def test_jobs_are_taken_from_outside_with_the_token_alone(cluster: Cluster) -> None:
    jobs = f"{cluster.jobs}/api/jobs/"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(jobs, timeout=30)
    with_token = urllib.request.Request(jobs, headers={"Authorization": f"Bearer {cluster.token}"})
    with urllib.request.urlopen(with_token, timeout=30) as answer:
        assert isinstance(json.load(answer), list)
