"""Training on three machines: the bits of one machine, whatever happens to machines and links on the way."""

from __future__ import annotations

import re
import time

import pytest

from tests.cluster.lab import machine_of_rank_0
from tests.cluster.nodes import Cluster
from tests.faults.harness import EVERY, STEPS, Attempt, FaultLab
from tests.faults.table import Table

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(1200)]


def test_three_machines_give_the_bits_of_one(lab: FaultLab, cluster: Cluster, table: Table) -> None:
    row = table.expect("3 machines with a worker each", "nothing")
    machines = [node for node in cluster.nodes[1:] if node.alive]
    before = [cluster.network.traffic(machine.host) for machine in machines]
    outcome = lab.finish()
    gradient = 4 * lab.project.json("results/train/metrics.json")["parameters"]
    for machine, then in zip(machines, before, strict=True):
        sent = (cluster.network.traffic(machine.host) - then).sent
        assert sent > STEPS * gradient, f"{machine.name} sent {sent} bytes: it took no part in each step"
    table.same_bits(row, lab, outcome, "nothing")


def test_a_slow_link(lab: FaultLab, cluster: Cluster, table: Table) -> None:
    row = table.expect("the link of one of 3 machines at 8 Mbit/s", "nothing but time")
    machine = cluster.nodes[-1]
    cluster.network.slow(machine.host, mbit_per_s=8)
    try:
        outcome = lab.finish()
    finally:
        cluster.network.fast(machine.host)
    (attempt,) = lab.attempts
    assert "hangs" not in attempt.text
    table.same_bits(row, lab, outcome, "nothing")


def test_the_machine_of_rank_0_loses_its_power(lab: FaultLab, cluster: Cluster, table: Table) -> None:
    """With the time-outs that are the default: what is measured is what a person waits."""
    row = table.expect("the machine of rank 0 loses its power, from 2 to 3 workers", "the other two go on")

    def power_off(attempt: Attempt) -> None:
        machine_of_rank_0(lab, cluster).kill()

    lab.settings = {
        **lab.settings,
        "PIPELINES__RAY__WORKERS": "[2,3]",
        "PIPELINES__RAY__HANG_TIMEOUT_S": "120",
        "PIPELINES__RAY__COLLECTIVE_TIMEOUT_S": "300",
    }
    attempt = lab.disturb(power_off)
    assert attempt.process.returncode == 0, attempt.text
    assert "go on from step" in attempt.text
    table.same_bits(row, lab, lab.outcome(), "went on by itself")


def test_a_link_is_cut_and_mended(lab: FaultLab, cluster: Cluster, table: Table) -> None:
    """Soon enough for Ray, which drops a machine after half a minute and more."""
    row = table.expect("the link of one of 3 machines cut for 15 s, a collective waits 8 s", "all three go on")
    machine = cluster.nodes[-1]

    def cut(attempt: Attempt) -> None:
        cluster.network.cut(machine.host)
        try:
            time.sleep(15)
        finally:
            cluster.network.mend(machine.host)

    attempt = lab.disturb(cut, PIPELINES__RAY__COLLECTIVE_TIMEOUT_S="8", PIPELINES__RAY__HANG_TIMEOUT_S="12")
    assert attempt.process.returncode == 0, attempt.text
    assert "3 workers" in attempt.text.partition("New workers go on")[2], attempt.text
    assert machine.alive
    table.same_bits(row, lab, lab.outcome(), "went on by itself")


def test_a_machine_is_added(lab: FaultLab, cluster: Cluster, table: Table) -> None:
    """Ray Train looks once a minute whether there are more."""
    row = table.expect("from 2 to 3 workers, the third machine comes later", "it takes part from then on")
    first, _ = cluster.scale(2)

    def add(attempt: Attempt) -> None:
        cluster.network.slow(first.host, mbit_per_s=0.5)  # so that the run is long enough
        try:
            cluster.scale(3)
            attempt.wait_for_text("3 workers")
        finally:
            cluster.network.fast(first.host)

    attempt = lab.disturb(add, at=EVERY, PIPELINES__RAY__WORKERS="[2,3]")
    assert attempt.process.returncode == 0, attempt.text
    (step,) = re.findall(r"3 workers .* go on from step (\d+)", attempt.text)
    table.same_bits(row, lab, lab.outcome(), f"it did from step {step}")


def test_too_few_machines(lab: FaultLab, cluster: Cluster, table: Table) -> None:
    row = table.expect("from 2 to 3 workers, and one machine", "given up after ray.start_timeout_s = 30 s")
    cluster.scale(1)
    began = time.monotonic()
    attempt = lab.start(
        PIPELINES__RAY__WORKERS="[2,3]", PIPELINES__RAY__START_TIMEOUT_S="30", PIPELINES__RAY__GRACE_S="5"
    )
    assert attempt.end() == 1, attempt.text
    row.seen = f"given up after {time.monotonic() - began:.0f} s, starts included"
    assert "2 workers, which need 2 CPU; Ray has 1 CPU" in attempt.text
    assert "Lower ray.workers, or give the cluster more machines" in attempt.text
