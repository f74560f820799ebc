"""Progress told on lines, and shown elsewhere as if it were there."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pipelines.report import progress as module
from pipelines.report.progress import MARK, RELAY, progress
from pipelines.report.relayed import Relayed, decode


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of a work of ten steps of a second each, of which five were done before."""
    clock = iter(float(second) for second in range(100))
    with monkeypatch.context() as patch:
        patch.setenv(RELAY, "told")
        patch.setattr(module.time, "monotonic", lambda: next(clock))
        with progress("training", 10, "step", start=5) as bar:
            for done in range(6, 11):
                bar.update(done, loss=0.5)
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.rstrip("\n").split("\n")  # splitlines would also split at the mark


def test_every_line_can_be_read_and_the_last_one_says_so(told: list[str]) -> None:
    found = [decode(line) for line in told]
    assert all(found)
    assert [each[1] for each in found if each] == [False] * (len(told) - 1) + [True]
    count = found[-1][0] if found[-1] else None
    assert count
    assert (count.title, count.start, count.done, count.total, count.numbers) == ("training", 5, 10, 10, {"loss": 0.5})


def test_what_is_shown_has_the_rate_of_the_one_who_works(told: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Read all at once, as the log of a job that one comes back to."""
    with Relayed() as bars:
        for line in told:
            assert bars.show(line)
    (shown,) = capsys.readouterr().err.splitlines()
    assert shown.startswith("training  10/10 steps  ")
    assert "  2.2 s/step  took 0:11  " in shown
    assert shown.endswith("loss 0.5")


def test_a_long_work_is_told_more_rarely_after_its_first_minutes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log is read from the beginning by everyone who comes back to it."""
    now = 0.0
    monkeypatch.setenv(RELAY, "told")
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    with progress("training", 86400, "step") as bar:
        for second in range(86400):
            now = float(second)
            bar.update(second)
    found = [decode(line) for line in capsys.readouterr().err.rstrip("\n").split("\n")]
    told = [each[0].done for each in found if each]
    assert told[:120] == list(range(120))
    assert max(later - earlier for earlier, later in pairwise(told)) == 5
    assert len(told) < 18_000


@pytest.mark.parametrize(
    "line", ["", "loss 0.5", f'{MARK}{{"title": "tra', f'{MARK}{{"title": "training"}}', "progress {}"]
)
def test_any_other_line_is_for_the_reader(line: str) -> None:
    with Relayed() as bars:
        assert not bars.show(line)


def test_a_bar_that_was_not_ended_is_closed(told: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with Relayed() as bars:
        bars.show(told[0])
    assert capsys.readouterr().err.startswith("training  6/10 steps")
