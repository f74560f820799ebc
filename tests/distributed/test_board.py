"""The board between workers and driver, without Ray: what is called on it happens at once."""

import pytest

from diffusion.training.points import LossPoint
from pipelines.cluster import board as board_module
from pipelines.cluster.board import Board, Teller, listening
from pipelines.cluster.events import Advanced, Event, Measured


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


def test_an_error_of_the_hearer_is_raised_at_the_end() -> None:
    def hear(event: Event) -> None:
        raise ZeroDivisionError

    local = Local()
    with pytest.raises(ZeroDivisionError), listening(Ray, local, hear):  # type: ignore[arg-type]
        local.board.post(POINT)


def test_the_blocks_own_error_goes_first() -> None:
    with pytest.raises(KeyError), listening(Ray, Local(), print):  # type: ignore[arg-type]
        raise KeyError
