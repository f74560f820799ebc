"""Progress where there is no terminal: plain lines with rate and time left, counted from where this process began."""

import pytest

from pipelines.report import progress as module
from pipelines.report.progress import Count, clock_text, progress, short


def test_a_line_has_count_rate_time_left_and_numbers():
    count = Count("training", 2000, "step", start=500, done=1500, elapsed_s=100.0, numbers={"loss": 0.0451})
    assert count.line() == "training  1500/2000 steps  10.0 steps/s  0:50 left  loss 0.0451"


def test_resumed_steps_are_not_in_the_rate():
    assert Count("t", 10, "step", start=8, done=9, elapsed_s=2.0).rate == 0.5
    assert Count("t", 10, "step", start=8, done=8, elapsed_s=2.0).rate is None


def test_slow_work_is_given_in_seconds_per_unit():
    assert "4 s/image" in Count("t", 10, "image", done=1, elapsed_s=4.0).line()


def test_lines_are_rare_and_the_last_one_says_how_long_it_took(capsys: pytest.CaptureFixture[str], monkeypatch):
    clock = iter([0.0, *(float(second) for second in range(1, 31)), 31.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock, 31.0))
    with progress("training", 15, "step") as bar:
        for done in range(1, 16):
            bar.update(done)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 4
    assert lines[-1].startswith("training  15/15 steps")
    assert "took" in lines[-1]


@pytest.mark.parametrize(("seconds", "text"), [(5, "0:05"), (65, "1:05"), (7265, "2:01:05")])
def test_times(seconds, text):
    assert clock_text(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(3, "3"), (0.045123, "0.0451"), (12345.6, "12346"), (1.5, "1.5")])
def test_numbers(value, text):
    assert short(value) == text
