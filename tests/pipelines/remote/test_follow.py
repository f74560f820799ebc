"""Watching jobs of this machine: what is shown of them, and what no longer."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.backends.backend import Submission
from pipelines.backends.local import Local
from pipelines.jobs import logs
from pipelines.remote import follow
from tests.pipelines.backends.conftest import end_of, until

TALKS = """
import itertools, time
for number in itertools.count():
    print("line", number, flush=True)
    time.sleep(0.01)
"""

Start = Callable[[str], Local]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a job "one" with a program; it is killed."""
    local = Local(tmp_path / "jobs")

    def start(program: str) -> Local:
        (tmp_path / "code").mkdir()
        (tmp_path / "code" / "work.py").write_text(program)
        local.submit(Submission("one", ("python", "-m", "work"), tmp_path / "code"))
        return local

    yield start
    if local.status("one").state.ended:
        return
    shell = local._job("one").process
    assert shell
    os.killpg(shell, signal.SIGKILL)


def test_one_who_leaves_is_shown_nothing_more(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    local = start(TALKS)

    def leave() -> None:
        until(lambda: "line 50\n" in (local.folder / "one" / "log.txt").read_text())
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=leave, daemon=True).start()
    with pytest.raises(follow.Detach):
        follow.follow("one", local)
    assert "line 1\n" in capsys.readouterr().out
    time.sleep(0.5)
    assert capsys.readouterr() == ("", "")
    until(lambda: "log" not in [thread.name for thread in threading.enumerate()])


def test_the_log_of_a_job_that_has_ended_is_shown_to_its_end(
    start: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    local = start("for number in range(50_000): print('line', number)")
    end_of(local, "one")
    monkeypatch.setattr(follow, "_REST_S", 0.0)
    logs("one", local)
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [f"line {number}" for number in range(50_000)]
    assert shown.err == "one: succeeded\n"
