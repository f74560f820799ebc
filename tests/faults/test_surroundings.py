"""What surrounds a run: other runs, DVC, the clock, the number of workers, the environment."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.faults.conftest import Table
from tests.faults.harness import Attempt, FaultLab

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(900)]

SHIM = str(Path(__file__).parent / "shim")
REPRO = ("dvc", "repro", "train")


def test_two_runs_at_once(lab: FaultLab, table: Table) -> None:
    row = table.expect("the same run started twice", "the second is refused and names the first")

    def second(attempt: Attempt) -> None:
        other = lab.start()
        assert other.end() == 1
        assert "is being worked on by process" in other.text
        assert f"process {attempt.process.pid} on " in other.text
        assert " since 20" in other.text

    attempt = lab.disturb(second)
    assert attempt.process.returncode == 0, attempt.text
    table.same_bits(row, lab, lab.outcome(), "refused, naming pid, host and start; the first ended undisturbed")


def test_dvc_is_killed_and_its_stage_lives_on(lab: FaultLab, table: Table) -> None:
    row = table.expect("kill -9 of DVC alone", "its stage trains on; a second dvc repro is refused; the third finds it")
    began = time.monotonic()
    first = lab.start(*REPRO)
    first.wait_for_step(40)
    (stage,) = first.below("pipelines.train")[:1]
    first.process.kill()
    first.process.wait()  # a process that nobody waits for is still there for DVC, which then guards its lock
    second = lab.start(*REPRO)
    assert second.end() != 0
    assert f"is being worked on by process {stage.pid} on " in second.text
    stage.wait(240)
    third = lab.start(*REPRO)
    assert third.end() == 0, third.text
    assert "nothing to train" in third.text
    lab.seconds += time.monotonic() - began
    table.same_bits(row, lab, lab.outcome(), "refused, naming the orphan; then taken as it was")


def test_dvc_is_killed_with_its_stage(lab: FaultLab, table: Table) -> None:
    row = table.expect("kill -9 of dvc repro and all below it", "the next dvc repro goes on")
    began = time.monotonic()
    first = lab.start(*REPRO)
    first.wait_for_step(40)
    os.killpg(first.process.pid, signal.SIGKILL)
    lab.clear(first)
    again = lab.start(*REPRO)
    assert again.end() == 0, again.text
    assert "resumed from the checkpoint" in again.text
    lab.seconds += time.monotonic() - began
    table.same_bits(row, lab, lab.outcome(), "resumed")


def test_the_clock_jumps(lab: FaultLab, table: Table) -> None:
    row = table.expect("the clock jumps by a day, to and fro", "nothing")
    outcome = lab.finish(PYTHONPATH=SHIM, FAULT="jump 86400")
    table.same_bits(row, lab, outcome, "nothing")


def test_a_step_that_kills_its_workers_each_time(lab: FaultLab, table: Table) -> None:
    row = table.expect("the workers crash in the same step each time", "given up after 3 times, naming the step")
    attempt = lab.disturb(Attempt.end, at=None, PYTHONPATH=SHIM, FAULT="exit 57")
    assert attempt.process.returncode == 1, attempt.text
    assert "the workers died 3 times in a row in step 58, which is no chance" in attempt.text
    table.same_bits(row, lab, lab.finish(), "given up after 3 times; with the cause gone, resumed")


def test_what_ray_keeps_of_the_run_is_damaged(lab: FaultLab, table: Table) -> None:
    """Ray Train's own memory of the run. No checkpoint is reported to it, so the snapshot is one that we add."""
    from ray.train.v2._internal.constants import CHECKPOINT_MANAGER_SNAPSHOT_FILENAME

    row = table.expect(
        "all that Ray Train stores of the run filled with garbage, a torn snapshot added, worker killed",
        "goes on from the checkpoint",
    )
    damaged: list[str] = []

    def damage(attempt: Attempt) -> None:
        (kept,) = (lab.project.folder / ".state" / "ray").iterdir()
        for file in [file for file in kept.rglob("*") if file.is_file()]:
            file.write_bytes(b"\xff garbage")
            damaged.append(file.name)
        (kept / CHECKPOINT_MANAGER_SNAPSHOT_FILENAME).write_text('{"ray_version": "')
        attempt.signal("RayTrainWorker", which=1)

    attempt = lab.disturb(damage)
    assert damaged
    assert attempt.process.returncode == 0, attempt.text
    table.same_bits(row, lab, lab.outcome(), f"went on by itself; damaged: {', '.join(damaged)}")


def test_the_number_of_workers_changes_twice(lab: FaultLab, table: Table) -> None:
    row = table.expect("1 worker, then 3, then 2", "same bits")
    for workers, at in (("1", 40), ("3", 120)):
        stopped = lab.disturb(lambda a: a.process.terminate(), at=at, PIPELINES__RAY__WORKERS=workers)
        assert stopped.process.returncode == 75, stopped.text
    table.same_bits(row, lab, lab.finish(), "resumed twice")


ENVIRONMENTS: dict[str, dict[str, str]] = {
    "1 worker": {"PIPELINES__RAY__WORKERS": "1"},
    "3 workers": {"PIPELINES__RAY__WORKERS": "3"},
    "4 workers": {"PIPELINES__RAY__WORKERS": "4"},
    "as many workers as there are, from 1 to 4": {"PIPELINES__RAY__WORKERS": "[1, 4]"},
    "1 loader process for each worker": {"PIPELINES__RAY__LOADERS_PER_WORKER": "1"},
    "4 loader processes for each worker": {
        "PIPELINES__RAY__LOADERS_PER_WORKER": "4",
        "PIPELINES__RAY__HANG_TIMEOUT_S": "60",  # eight processes that import torch on two cores take longer than 6 s
    },
    "other PYTHONHASHSEED, time zone and locale": {"PYTHONHASHSEED": "7", "TZ": "Asia/Kathmandu", "LC_ALL": "C"},
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_other_surroundings(lab: FaultLab, table: Table, name: str) -> None:
    row = table.expect(name, "same bits")
    table.same_bits(row, lab, lab.finish(**ENVIRONMENTS[name]), "nothing")


def test_another_umask(lab: FaultLab, table: Table) -> None:
    row = table.expect("umask 077", "same bits")
    before = os.umask(0o077)
    try:
        outcome = lab.finish()
    finally:
        os.umask(before)
    table.same_bits(row, lab, outcome, "nothing")
