"""A process that is watched: its lines, its end, its standing still."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

from pipelines.remote import supervised as module
from pipelines.remote.supervised import supervised
from pipelines.report.progress import MARK
from tests.pipelines.remote.processes import is_gone

TELLS = f"""
def tell(done):
    count = {{"title": "t", "total": 9, "unit": "step", "start": 0, "done": done, "elapsed_s": 1.0, "numbers": {{}}}}
    print({MARK!r} + json.dumps({{**count, "ended": False}}), flush=True)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", "import json, os, signal, sys, time\n" + TELLS + textwrap.dedent(code)]


def signal_when_ready(folder: Path) -> None:
    """SIGTERM to this process."""
    while not (folder / "ready").exists():
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGTERM)


def test_lines_are_passed_on_and_the_last_one_is_known(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = "print('one'); print('two', file=sys.stderr); tell(3); sys.exit(3)"
    ended = supervised(python(code), tmp_path, {**os.environ, "PYTHONUNBUFFERED": "1"}, 60)
    assert (ended.exit_status, ended.said) == (3, "two")
    assert capfd.readouterr().out.splitlines()[:2] == ["one", "two"]


def test_one_that_is_killed_has_the_status_of_a_shell(tmp_path: Path) -> None:
    assert supervised(python("os.kill(os.getpid(), 9)"), tmp_path, os.environ, 60).exit_status == 137


def test_one_that_counts_on_is_left_alone_and_one_that_only_talks_is_not(tmp_path: Path) -> None:
    counting = "for i in range(8):\n    tell(i)\n    time.sleep(0.2)"
    assert supervised(python(counting), tmp_path, os.environ, 1.0).exit_status == 0
    talking = "tell(5)\nwhile True:\n    print('still here', flush=True)\n    tell(5)\n    time.sleep(0.1)"
    began = time.monotonic()
    ended = supervised(python(talking), tmp_path, os.environ, 1.0)
    assert ended.exit_status == 1
    assert "t stands at 5" in ended.said
    assert time.monotonic() - began < 10


def test_sigterm_is_passed_on(tmp_path: Path) -> None:
    code = """
    signal.signal(signal.SIGTERM, lambda *_: (print('saved', flush=True), sys.exit(75)))
    open('ready', 'w').close()
    time.sleep(60)
    """
    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=signal_when_ready, args=(tmp_path,), daemon=True).start()
    ended = supervised(python(code), tmp_path, os.environ, 60)
    assert (ended.exit_status, ended.said, ended.asked) == (75, "saved", True)
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_it_left_behind_is_no_reason_to_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE_S", 0.5)
    code = """
    import subprocess
    print(subprocess.Popen(["sleep", "60"]).pid)
    """
    began = time.monotonic()
    ended = supervised(python(code), tmp_path, os.environ, 60)
    assert ended.exit_status == 0
    assert time.monotonic() - began < 15
    assert is_gone(int(ended.said))


def test_with_one_that_stands_still_all_that_it_started_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE_S", 0.5)
    shell = ["sh", "-c", "trap '' TERM; sleep 60 & echo $! > child; wait; wait"]
    began = time.monotonic()
    assert "it has counted nothing yet" in supervised(shell, tmp_path, os.environ, 0.5).said
    assert time.monotonic() - began < 15
    assert is_gone(int((tmp_path / "child").read_text()))


def test_a_password_in_an_address_goes_no_further_than_the_log(tmp_path: Path) -> None:
    code = "print('no answer from https://ada:secret@host/x')"
    ended = supervised(python(code), tmp_path, os.environ, 60)
    assert ended.said == ended.lines[-1] == "no answer from https://***@host/x"


def test_it_is_asked_to_end_when_its_watcher_is_killed(tmp_path: Path) -> None:
    inner = "open('pid', 'w').write(str(os.getpid())); time.sleep(120)"
    code = f"""
    from pathlib import Path
    from pipelines.remote.supervised import supervised
    supervised({python(inner)!r}, Path({str(tmp_path)!r}), os.environ, 60)
    """
    watcher = subprocess.Popen(python(code))
    pid = tmp_path / "pid"
    while not (pid.exists() and pid.read_text()):
        time.sleep(0.05)
    child = psutil.Process(int(pid.read_text()))
    watcher.kill()
    watcher.wait()
    child.wait(10)
