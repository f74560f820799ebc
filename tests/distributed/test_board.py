"""The board between workers and driver, without Ray: what is called on it happens at once."""

import time

import pytest

from diffusion.training.points import LossPoint
from pipelines.cluster import board as board_module
from pipelines.cluster.board import Board, Teller, listening
from pipelines.cluster.events import Advanced, Event, Measured, Undisturbed


class Local:
    """A board as Ray hands it out, in this process."""

    def __init__(self) -> None:
        self.board = Board()

    def __getattr__(self, name: str) -> object:
        method = getattr(self.board, name)
        return type("Method", (), {"remote": staticmethod(method)})


class Ray:
    @staticmethod
    def get(value: object) -> object:
        return value


POINT = Measured(LossPoint(1, 0.5, 1.0, 0.1))


def test_events_are_taken_once_and_in_order() -> None:
    board = Board()
    board.post(Advanced(1))
    board.post(POINT)
    assert board.take() == [Advanced(1), POINT]
    assert board.take() == []


def test_the_first_failure_stays() -> None:
    board = Board()
    assert board.failure() is None
    board.fail("first")
    board.fail("second")
    assert board.failure() == "first"


def test_points_are_told_always_and_steps_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(board_module.time, "monotonic", lambda: now[0])
    local = Local()
    tell = Teller(local)
    for step in range(1, 101):
        now[0] += 0.01
        tell(Advanced(step))
        if step == 50:
            tell(POINT)
    told = local.board.take()
    assert POINT in told
    steps = [event.step for event in told if isinstance(event, Advanced)]
    assert steps[0] == 1
    assert len(steps) == 4  # one per quarter of a second


def test_everything_is_heard_before_the_block_is_left() -> None:
    local = Local()
    heard: list[Event] = []
    with listening(Ray, local, heard.append):  # type: ignore[arg-type]
        for step in range(20):
            local.board.post(Advanced(step))
    assert heard == [Advanced(step) for step in range(20)]


def test_the_block_sees_at_once_what_ended_the_listening() -> None:
    seen: list[BaseException] = []

    def look() -> None:
        raise ZeroDivisionError

    def block() -> None:
        with listening(Ray, Local(), print, [look]) as listener:  # type: ignore[arg-type]
            while not listener.error:
                time.sleep(0.01)
            seen.append(listener.error)

    with pytest.raises(ZeroDivisionError) as raised:
        block()
    assert seen == [raised.value]


def test_an_error_of_the_hearer_is_told_once_and_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[Event] = []

    def hear(event: Event) -> None:
        heard.append(event)
        if event == POINT:
            raise OSError("no room")

    hear_all, local = Undisturbed(hear), Local()
    with listening(Ray, local, hear_all) as listener:  # type: ignore[arg-type]
        for event in (POINT, POINT, Advanced(2)):
            local.board.post(event)
    assert listener.error is None
    assert heard == [POINT, POINT, Advanced(2)]
    warning = "warning: training goes on, but not all of it can be shown or tracked: OSError: no room\n"
    assert capsys.readouterr().err == warning


def test_the_blocks_own_error_goes_first() -> None:
    with pytest.raises(KeyError), listening(Ray, Local(), print):  # type: ignore[arg-type]
        raise KeyError
