"""The driver's side of a training without Ray: what it makes of attempts that fail, and of a board that is gone."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, GetTimeoutError, RayTaskError
from ray.train.v2._internal.exceptions import (
    InsufficientClusterResourcesError,
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
)

from pipelines.cluster import trainer as trainer_module
from pipelines.cluster.attempt import Failed, _not_started, backend_for
from pipelines.cluster.board import Board, Listening
from pipelines.cluster.events import Event, Saved, Started, Stopped, Told
from pipelines.cluster.patience import Patience
from pipelines.cluster.pulse import Beat
from pipelines.cluster.stopping import Wish
from pipelines.cluster.trainer import _Training
from pipelines.errors import RunLocked, TrainingError
from pipelines.runs import lease
from pipelines.runs.cell import Cell
from pipelines.runs.lease import Lease
from pipelines.runs.lock import RUN
from pipelines.settings import RaySettings
from tests.distributed.test_board import Local, Ray


class FakeRay(Ray):
    """Calls at once what is called, and has two CPUs."""

    @staticmethod
    def cluster_resources() -> dict[str, float]:
        return {"CPU": 2}


class Driver:
    """A training whose attempts are functions of the board; it keeps what was told."""

    def __init__(self, lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.local = Local()
        self.told: list[Event] = []
        self.wish = Wish()
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(trainer_module, "start_board", lambda ray: self.local)
        settings = RaySettings(workers=2)
        patience = Patience(settings.max_failures, settings.same_step_failures)
        ray: Any = FakeRay
        self.training = _Training(ray, lab.job(), settings, self.told.append, self.wish, patience)

    def attempts(self, attempt: Callable[[Board], Failed | None]) -> None:
        self._monkeypatch.setattr(trainer_module, "attempt", lambda *args: attempt(self.local.board))

    @property
    def lines(self) -> list[str]:
        return [event.line for event in self.told if isinstance(event, Told)]


@pytest.fixture
def driver(lab: Any, monkeypatch: pytest.MonkeyPatch) -> Driver:
    return Driver(lab, monkeypatch)


def test_workers_that_die_before_they_meet(driver: Driver) -> None:
    """Their pulses tell of no step before that: what dies there does not die in step 1."""

    def attempt(board: Board) -> Failed:
        board.beat(Beat(0, 77, "node", 0, "_lock (flock.py:1)", waiting=True))
        return Failed({0: "its process died", 1: "its process died"})

    driver.attempts(attempt)
    with pytest.raises(TrainingError, match="the workers died 3 times in a row before their first step") as error:
        driver.training.run()
    who = "worker 0 (process 77) before its first step: its process died; worker 1 before its first step"
    assert who in str(error.value)
    assert driver.lines[0].startswith(who)


def test_a_board_that_dies_is_noticed_while_the_workers_go_on(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has said last still counts: the checkpoint that was saved, and the step."""
    end, after = threading.Event(), list[tuple[int | None, bool]]()

    def take() -> list[Event]:
        if driver.local.board.report().saved:
            raise ActorDiedError
        return []

    def attempt(board: Board) -> None:
        board.post(Started(5, 2, "cpu", (), (), ()))
        board.beat(Beat(0, 77, "node", 6, "step (step.py:1)", waiting=False))
        driver.training._report()
        board.post(Saved(6))
        driver.training._report()
        monkeypatch.setattr(driver.local, "report", Method(lost), raising=False)
        end.wait(10)

    def lost() -> Any:
        raise ActorDiedError

    monkeypatch.setattr(driver.local, "take", Method(take), raising=False)
    monkeypatch.setattr(driver.training._patience, "after", lambda *args: after.append(args))
    driver.attempts(attempt)
    monkeypatch.setattr(driver.local, "stop", Method(lambda reason: end.set()), raising=False)
    assert driver.training.run() is False
    assert end.is_set()
    assert after == [(7, True)]
    assert driver.lines[-1].startswith("the board between workers and driver died. New workers go on")


class Method:
    """Of a board as Ray hands it out."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.remote = call


def test_a_driver_whose_run_is_taken_over_stops_its_workers(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have a lock of their own, and would go on."""
    place = str(driver.training._job.run)
    lost = Lease(Cell("bucket", "run/lock.json", ttl_s=30), RUN, place)
    lost.lost_to = "process 5 on elsewhere"
    monkeypatch.setitem(lease._held, place, [lost])

    def attempt(board: Board) -> None:
        beat = Beat(0, 77, "node", 6, "step (step.py:1)", waiting=False)
        while not (reason := board.beat(beat)):
            time.sleep(0.01)
        assert reason == "the run was taken over by process 5 on elsewhere"
        board.post(Stopped(7, preempted=False))

    driver.attempts(attempt)
    with pytest.raises(RunLocked, match=r"taken over by process 5 on elsewhere.*let the other one go on"):
        driver.training.run()


def test_a_result_that_comes_in_the_moment_in_which_a_wait_for_it_ends(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Late(Future[Failed | None]):
        def result(self, timeout: float | None = None) -> Failed | None:
            there = super().result(5)
            if timeout is not None:
                raise TimeoutError
            return there

    monkeypatch.setattr(trainer_module, "Future", Late)
    driver.attempts(lambda board: Failed({}, of_ray="gone"))
    assert driver.training._in_thread(2, Listening()) == Failed({}, of_ray="gone")


def test_an_attempts_own_time_out_is_its_own(driver: Driver) -> None:
    def attempt(board: Board) -> None:
        raise TimeoutError("of the attempt")

    driver.attempts(attempt)
    with pytest.raises(TimeoutError, match="of the attempt"):
        driver.training._in_thread(2, Listening())


@pytest.mark.parametrize(
    ("failure", "described"),
    [
        (WorkerGroupStartupFailedError("one of them"), "a worker died while the workers were starting"),
        (ActorDiedError(), "a worker died while the workers were starting"),
        (
            RayTaskError("meet", "a traceback", ConnectionError("closed by peer")).as_instanceof_cause(),
            "the workers did not meet: ConnectionError: closed by peer",
        ),
    ],
)
def test_a_start_that_failed_is_an_attempt(failure: Exception, described: str, driver: Driver) -> None:
    failed = _not_started(failure, RaySettings(), 2)
    assert failed.describe(driver.training._known) == described
    assert failed.of_ray


def test_elastic_workers_that_did_not_come_are_an_attempt(driver: Driver) -> None:
    """The next one may do with fewer."""
    failed = _not_started(WorkerGroupStartupTimeoutError(3), RaySettings(), (2, 3))
    assert failed.describe(driver.training._known) == "a machine that Ray had counted for the workers could not be had"
    assert failed.of_ray


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (WorkerGroupStartupTimeoutError(2), "2 workers with 1 CPUs and 0 GPUs each could not be had within 300 s"),
        (InsufficientClusterResourcesError("no GPU"), "could not be had within 300 s: .*no GPU.*Lower ray.workers"),
        (GetTimeoutError("the scheduler"), "^Ray Train failed: GetTimeoutError: the scheduler$"),
    ],
)
def test_a_start_that_no_other_attempt_mends(failure: Exception, said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        _not_started(failure, RaySettings(), 2)


@pytest.mark.parametrize(("gpus", "backend"), [(0, "gloo"), (0.25, "gloo"), (1, "nccl"), (2, "nccl")])
def test_nccl_serves_workers_with_a_gpu_of_their_own(gpus: float, backend: str) -> None:
    assert backend_for(gpus) == backend
