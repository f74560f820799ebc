"""Being asked to stop, by real signals; and the loop that hears of it."""

import os
import signal
from typing import Any

import pytest

from pipelines.cluster import stopping
from pipelines.cluster.events import Stopped
from pipelines.cluster.loop import Ending, Loop
from pipelines.cluster.pulse import Pulse
from pipelines.cluster.stopping import Wish, stop_signals


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_the_first_signal_is_a_wish_and_the_second_interrupts(
    number: signal.Signals, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that come together are one: whoever stops a job may signal each of its processes, which pass it on."""
    before = signal.getsignal(number)
    wish = Wish()
    with pytest.raises(KeyboardInterrupt), stop_signals(wish):  # noqa: PT012
        assert (wish.reason, wish.age_s) == (None, 0.0)
        os.kill(os.getpid(), number)
        assert wish.reason == name
        assert wish.age_s > 0
        os.kill(os.getpid(), number)
        monkeypatch.setattr(stopping, "TOGETHER_S", 0.0)
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


class StopsAt(Pulse):
    """Wants to stop once a step is done."""

    def __init__(self, step: int) -> None:
        self._at = step
        super().__init__()

    @property
    def step(self) -> int:
        return self._step

    @step.setter
    def step(self, step: int) -> None:
        self._step = step
        if step == self._at:
            self.stop = "SIGTERM"


def test_a_run_that_is_stopped_saves_and_goes_on_to_the_same_bits(lab: Any) -> None:
    """The wish comes after step 4 and travels with the gradient of step 5, after which all stop."""
    job, calm = lab.job("stopped"), lab.job("calm")
    events: list[Any] = []
    loop = Loop(job, lab.place, events.append, StopsAt(4))
    assert loop.run() is Ending.STOPPED
    assert events[-1] == Stopped(5, preempted=False)
    assert lab.run(job)[0].step == 5
    lab.run(calm)
    assert lab.digest(job) == lab.digest(calm)


def test_a_wish_in_the_last_step_finishes_the_run(lab: Any) -> None:
    job = lab.job()
    assert Loop(job, lab.place, lambda event: None, StopsAt(9)).run() is Ending.FINISHED
    assert lab.final(job).step == 10


def test_a_preemption_notice_saves_and_stops_too(lab: Any) -> None:
    """Asked for where the loss is logged, after steps 4 and 8."""
    answers = iter([False, True])
    events: list[Any] = []
    loop = Loop(lab.job(), lab.place, events.append, preempted=lambda: next(answers))
    assert loop.run() is Ending.PREEMPTED
    assert events[-1] == Stopped(8, preempted=True)
    assert lab.run(lab.job())[0].step == 8
