"""Processes that are killed or frozen, one of each kind, and what a person is told."""

import os
import signal
import time
from collections.abc import Callable

import psutil
import pytest

from tests.faults.conftest import Table
from tests.faults.harness import STEPS, Attempt, FaultLab

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(900)]

REPLACED = "the stage replaces them and ends by itself"
AGAIN = "the stage fails; the same command goes on"


def kill_both(attempt: Attempt) -> None:
    for worker in attempt.workers():
        worker.kill()


WITHIN: dict[str, tuple[Callable[[Attempt], object], str]] = {
    "kill -9 of worker 0": (lambda a: a.signal("RayTrainWorker", which=0), "its process died"),
    "kill -9 of worker 1": (lambda a: a.signal("RayTrainWorker", which=1), "its process died"),
    "kill -9 of both workers": (kill_both, "its process died"),
    "segmentation fault of a worker": (lambda a: a.signal("RayTrainWorker", signal.SIGSEGV), "its process died"),
    "kill -9 of Ray Train's controller": (lambda a: a.signal("TrainController"), "controller died"),
    "worker 1 frozen (SIGSTOP)": (lambda a: a.signal("RayTrainWorker", signal.SIGSTOP, 1), "it hangs in step"),
    "worker 0 frozen (SIGSTOP)": (lambda a: a.signal("RayTrainWorker", signal.SIGSTOP, 0), "it hangs in step"),
}


@pytest.mark.parametrize("fault", WITHIN)
def test_workers_are_replaced_within_the_attempt(lab: FaultLab, table: Table, fault: str) -> None:
    inject, told = WITHIN[fault]
    row = table.expect(fault, REPLACED)
    attempt = lab.disturb(inject)
    assert attempt.process.returncode == 0, attempt.text
    assert told in attempt.text
    assert "go on from step" in attempt.text
    table.same_bits(row, lab, lab.outcome(), f"told: {told!r}; went on by itself")


AFTER: dict[str, Callable[[Attempt], object]] = {
    "kill -9 of the stage (Ray's driver)": lambda a: a.process.kill(),
    "kill -9 of the raylet": lambda a: a.signal("raylet"),
    "kill -9 of Ray's control store (GCS)": lambda a: a.signal("gcs_server"),
    "kill -9 of the board": lambda a: a.signal("ray::Board"),
    "kill -9 of everything at once": lambda a: os.killpg(a.process.pid, signal.SIGKILL),
}


@pytest.mark.parametrize("fault", AFTER)
def test_what_takes_the_stage_along(lab: FaultLab, table: Table, fault: str) -> None:
    """What Ray itself cannot lose. It may also end the run before it notices; then there is nothing left to do."""
    row = table.expect(fault, AGAIN)
    attempt = lab.disturb(AFTER[fault])
    assert "Traceback" not in attempt.text, attempt.text
    status = attempt.process.returncode
    table.same_bits(row, lab, lab.finish(), f"exit status {status}; resumed")


@pytest.mark.parametrize("frozen", [False, True])
def test_the_same_command_meets_orphans(lab: FaultLab, table: Table, frozen: bool) -> None:
    """Workers train and save for seconds after their stage was killed; a frozen one goes on when others are there."""
    what = "kill -9 of the stage, started again at once"
    row = table.expect(what + ", with worker 0 frozen until then" * frozen, "one of both saves at a time")
    orphans: list[psutil.Process] = []

    def kill(attempt: Attempt) -> None:
        orphans.extend(attempt.workers())
        if frozen:
            orphans[0].send_signal(signal.SIGSTOP)
        attempt.process.kill()

    def meet(attempt: Attempt) -> None:
        if frozen:
            attempt.wait_for_workers()
            time.sleep(5.0)
            assert "resumed" not in attempt.text  # worker 0 waits for the orphan, which may be saving
            orphans[0].send_signal(signal.SIGCONT)

    lab.disturb(kill, clear=False)
    assert orphans[0].status() == psutil.STATUS_STOPPED if frozen else orphans[0].status() != psutil.STATUS_ZOMBIE
    second = lab.disturb(meet, at=None)
    assert second.process.returncode == 0, second.text
    assert "resumed from the checkpoint" in second.text
    table.same_bits(row, lab, lab.outcome(), "waited for the orphan" if frozen else "resumed")


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_asked_to_stop(lab: FaultLab, table: Table, number: signal.Signals, name: str) -> None:
    row = table.expect(f"{name} to the stage", "the step ends, a checkpoint of it is saved, exit status 75")
    attempt = lab.disturb(lambda a: a.process.send_signal(number))
    assert attempt.process.returncode == 75, attempt.text
    assert f"stopped: {name}: training stopped after step {lab.saved_step()} and saved it" in attempt.text
    saved = lab.saved_step()
    assert 40 < saved < STEPS
    table.same_bits(row, lab, lab.finish(), f"saved step {saved}, exit status 75")


def test_asked_twice(lab: FaultLab, table: Table) -> None:
    row = table.expect("Ctrl-C twice", "the stage ends at once, exit status 130")

    def twice(attempt: Attempt) -> None:
        attempt.workers()[1].send_signal(signal.SIGSTOP)  # so that no step ends by itself
        attempt.process.send_signal(signal.SIGINT)
        attempt.wait_for_text("again to stop at once")
        attempt.process.send_signal(signal.SIGINT)

    attempt = lab.disturb(twice, PIPELINES__RAY__HANG_TIMEOUT_S="100")
    assert attempt.process.returncode == 130, attempt.text
    table.same_bits(row, lab, lab.finish(), "exit status 130")


def test_a_worker_that_does_not_stop_in_its_grace(lab: FaultLab, table: Table) -> None:
    row = table.expect("SIGTERM while a worker is frozen", "the stage ends after the grace time, exit status 75")

    def freeze(attempt: Attempt) -> None:
        attempt.signal("RayTrainWorker", signal.SIGSTOP, 1)
        attempt.process.send_signal(signal.SIGTERM)

    attempt = lab.disturb(freeze, PIPELINES__RAY__HANG_TIMEOUT_S="100", PIPELINES__RAY__GRACE_S="4")
    assert attempt.process.returncode == 75, attempt.text
    assert "did not end their step and save within ray.grace_s = 4 s" in attempt.text
    table.same_bits(row, lab, lab.finish(), "exit status 75")
