"""Signs of life: where a worker is, and which one is the reason why nothing moves."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest

from diffusion.training import tree
from pipelines.cluster import board as board_module
from pipelines.cluster.board import Board, Report, Sign
from pipelines.cluster.events import Event, Saved, Started, Stopped
from pipelines.cluster.pulse import Beat, Pulse, place_of
from pipelines.cluster.watchdog import Waiting, Watchdog, describe, end_worker, hanging, missing
from pipelines.errors import RunLocked, TrainingError
from pipelines.runs.local import LocalStore
from pipelines.runs.lock import writer_lock
from pipelines.settings import RaySettings


def beat(rank: int = 0, step: int = 5, doing: str = "step (x.py:1)", *, waiting: bool = False) -> Beat:
    return Beat(rank, 100 + rank, "node", step, doing, waiting)


def test_steps_are_told_and_the_answer_is_heard() -> None:
    told: list[Beat] = []

    def send(each: Beat) -> str | None:
        told.append(each)
        return "SIGTERM" if each.step >= 2 else None

    pulse = Pulse()
    with pulse.beating(3, "here", send):
        for step in range(3):
            pulse.step = step
            time.sleep(0.15)
    assert [each.step for each in told] == [0, 1, 2]
    assert {(each.rank, each.pid, each.node) for each in told} == {(3, os.getpid(), "here")}
    assert pulse.stop == "SIGTERM"


def test_a_board_that_is_away_does_not_matter() -> None:
    def send(each: Beat) -> str | None:
        raise ConnectionError

    pulse = Pulse()
    with pulse.beating(0, "here", send):
        time.sleep(0.1)
    assert pulse.stop is None


class Parts:
    """A buffer whose parts are all the same."""

    def __init__(self, part: object) -> None:
        self._part = part

    def __len__(self) -> int:
        return 1

    def __getitem__(self, part: slice) -> object:
        return self._part


def test_where_a_thread_is() -> None:
    """The innermost place of this project; one within the sum over the workers is with them, and no hang of its own."""
    place, waiting = place_of(sys._getframe())
    assert place.startswith("test_where_a_thread_is (tests/distributed/test_pulse.py:")
    assert not waiting
    assert place_of(None) == ("nowhere", False)

    message: Queue[None] = Queue()
    part = SimpleNamespace(add_=message.get)  # adding the other's part blocks until it is there
    summing = tree.TreeSum(tree.Shares(2), 0, [Parts(part)] * 2)  # type: ignore[list-item]
    thread = threading.Thread(target=summing, args=(lambda shard, buffer: None,))
    thread.start()
    time.sleep(0.1)
    place, waiting = place_of(sys._current_frames()[thread.ident or 0])
    message.put(None)
    thread.join()
    assert place.startswith("finish (diffusion/training/tree.py:")
    assert waiting


def test_waiting_for_the_writer_before_is_no_hang(tmp_path: Path) -> None:
    """It may take longer than a worker may hang, and has its own time limit and message."""
    run, refused = LocalStore(tmp_path / "run"), Queue[RunLocked]()

    def wait() -> None:
        try:
            with writer_lock(run, 1):
                pass
        except RunLocked as error:
            refused.put(error)

    with writer_lock(run, 0):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.3)
        place, waiting = place_of(sys._current_frames()[thread.ident or 0])
        thread.join()
    assert place.startswith("_lock (pipelines/runs/flock.py:")
    assert waiting
    assert "is being written by process" in str(refused.get())


def test_the_board_measures_ages_by_its_own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10.0]
    monkeypatch.setattr(board_module.time, "monotonic", lambda: now[0])
    board = Board()
    board.beat(beat(0))
    board.beat(beat(1, doing="read (y.py:2)"))
    now[0] = 17.0
    board.beat(beat(0))
    signs = board.report().signs
    assert (signs[0].heard_s, signs[0].moved_s) == (0.0, 7.0)
    assert (signs[1].heard_s, signs[1].moved_s) == (7.0, 7.0)
    board.beat(beat(0, step=6))
    assert board.report().signs[0].moved_s == 0.0
    board.forget(1)
    assert list(board.report().signs) == [0]


def test_the_board_knows_how_an_attempt_stands() -> None:
    board = Board()
    board.beat(beat(7))
    assert (board.report().step, board.report().where(7)) == (None, "before its first step")
    board.post(Started(0, 1, "cpu", (), (), ()))
    assert board.report().started
    assert board.report().signs == {}  # of the workers before
    board.beat(beat(0, step=7))
    board.beat(beat(1, step=6))
    assert (board.report().step, board.report().where(1)) == (8, "in step 7")
    board.post(Saved(4))
    board.post(Stopped(5, preempted=True))
    assert (board.report().saved, board.report().stopped) == (4, Stopped(5, preempted=True))
    board.stop("SIGTERM")
    board.stop("Ctrl-C")
    assert board.beat(beat()) == "SIGTERM"
    board.begin()
    assert (board.report().started, board.report().saved, board.report().stopped) == (False, None, None)


@pytest.mark.parametrize(
    ("sign", "hangs"),
    [
        (Sign(beat(), 0.5, 0.5), False),
        (Sign(beat(), 0.5, 31.0), True),  # stuck outside a collective
        (Sign(beat(waiting=True), 0.5, 31.0), False),  # waits for the one that hangs
        (Sign(beat(waiting=True), 31.0, 31.0), True),  # frozen while it waited
    ],
)
def test_who_hangs(sign: Sign, hangs: bool) -> None:
    healthy = Sign(beat(1, waiting=True), 0.1, 40.0)
    assert hanging({0: sign, 1: healthy}, limit_s=30.0) == ([sign] if hangs else [])


def test_beside_one_that_tells_nothing_nobody_else_is_blamed() -> None:
    """On a GPU a worker may wait for the others in any place."""
    frozen, other = Sign(beat(0), 31.0, 31.0), Sign(beat(1, doing="read (y.py:2)"), 0.5, 30.5)
    assert hanging({0: frozen, 1: other}, limit_s=30.0) == [frozen]


def test_workers_on_two_machines_may_have_the_same_number() -> None:
    """As in pods. Each is ended once."""
    ended: list[tuple[str, int]] = []

    def remote(scheduling_strategy: Any, **_: Any) -> Any:
        where = scheduling_strategy.node_id
        return lambda work: SimpleNamespace(remote=lambda pid: ended.append((where, pid)))

    signs = {
        rank: Sign(Beat(rank, 7, node, 5, "read", False), 0.5, 31.0) for rank, node in enumerate(("a" * 56, "b" * 56))
    }
    report = Report(None, started=True, saved=None, stopped=None, signs=signs)
    ray: Any = SimpleNamespace(remote=remote)
    watchdog = Watchdog(ray, lambda: report, lambda event: None, RaySettings(hang_timeout_s=30))
    for _ in range(2):
        watchdog._next = 0.0
        watchdog.look()
    assert ended == [("a" * 56, 7), ("b" * 56, 7)]


def test_asking_together_whether_a_machine_is_taken_away_is_a_meeting(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the real code of Ray Train, whose answer does not come."""
    from ray.train.v2._internal.execution import collective_impl

    answer = Queue[None]()
    actor = SimpleNamespace(broadcast_from_rank_zero=SimpleNamespace(remote=lambda **_: answer))
    context = SimpleNamespace(
        get_synchronization_actor=lambda: actor,
        get_world_rank=lambda: 0,
        get_world_size=lambda: 2,
        next_collective_seq=lambda: 1,
    )
    monkeypatch.setattr(collective_impl, "get_train_context", lambda: context)
    monkeypatch.setattr("ray.get", Queue.get)
    thread = threading.Thread(target=lambda: collective_impl.broadcast_from_rank_zero(None, relaxable=True))
    thread.start()
    time.sleep(0.1)
    place, waiting = place_of(sys._current_frames()[thread.ident or 0])
    answer.put(None)
    thread.join()
    assert "test_pulse.py" in place
    assert waiting


def test_a_person_is_told_rank_and_step() -> None:
    frozen = describe(Sign(beat(1, step=56), 31.0, 31.0), "in step 57")
    assert frozen.startswith("worker 1 (process 101 on node node) has told nothing for 31 s")
    assert "it hangs in step 57, in step (x.py:1)" in frozen
    assert "has not moved for 40 s" in describe(Sign(beat(), 0.2, 40.0), "before its first step")


def test_only_workers_of_ray_are_ended() -> None:
    """A number that another process has by now is left alone."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        end_worker(other.pid)
        time.sleep(0.1)
        assert other.poll() is None
        other.kill()
    with subprocess.Popen(["bash", "-c", "exec -a ray::RayTrainWorker sleep 60"]) as worker:
        while b"ray::" not in Path(f"/proc/{worker.pid}/cmdline").read_bytes():
            time.sleep(0.01)
        end_worker(worker.pid)
        assert worker.wait(5) == -9
    end_worker(worker.pid)


def test_what_is_missing() -> None:
    settings = RaySettings(cpus_per_worker=2, gpus_per_worker=1)
    text = missing(settings, 4, {"CPU": 16, "GPU": 4}, {"CPU": 16, "GPU": 1})
    assert text == "4 workers, which need 8 CPU, 4 GPU; Ray has 16 CPU (16 free), 4 GPU (1 free); missing are 3 GPU"
    assert missing(settings, 1, {"CPU": 16, "GPU": 4}, {"CPU": 16, "GPU": 4}).endswith("the workers are starting")


@pytest.mark.parametrize(("workers", "cpus", "gives_up"), [((2, 3), 1, True), ((2, 3), 2, False), (3, 1, False)])
def test_giving_up_where_ray_waits_without_end(
    monkeypatch: pytest.MonkeyPatch, workers: int | tuple[int, int], cpus: int, gives_up: bool
) -> None:
    """Of elastic workers, where there is no room for the least number."""
    now = [0.0]
    monkeypatch.setattr("pipelines.cluster.watchdog.time.monotonic", lambda: now[0])
    resources = {"CPU": float(cpus)}
    ray: Any = SimpleNamespace(cluster_resources=lambda: resources, available_resources=lambda: resources)
    told: list[Event] = []
    waiting = Waiting(ray, Board().report, told.append, RaySettings(workers=workers, start_timeout_s=60), 3)
    for now[0] in (10.0, 30.0):
        waiting.look()
    assert len(told) == 1
    now[0] = 60.0
    if gives_up:
        with pytest.raises(TrainingError, match=r"2 workers, which need 2 CPU; Ray has 1 CPU .* after 60 s"):
            waiting.look()
    else:
        waiting.look()
        assert len(told) == 2
