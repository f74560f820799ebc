"""Jobs on this machine: real processes, which are stopped and killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipelines.backends import folder
from pipelines.backends.backend import AlreadyThere, State, Status
from pipelines.backends.local import Local
from pipelines.errors import PipelineError
from tests.pipelines.backends.conftest import WAITS, Make, begun, end_of, until

SUBMITS = """
import sys
from pathlib import Path
from pipelines.backends.backend import AlreadyThere, Submission
from pipelines.backends.local import Local
sys.stdin.readline()
try:
    Local(Path(sys.argv[1])).submit(Submission("one", ("python", "-m", "pipelines.work"), Path(sys.argv[2])))
    print("submitted", flush=True)
except AlreadyThere:
    print("already there", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    """This machine; what is left of its jobs is killed."""
    local = Local(tmp_path / "jobs")
    yield local
    for name in local.attach(""):
        shell = local._job(name).process
        if shell and local._job(name).held:
            os.killpg(shell, signal.SIGKILL)


def submitter(local: Local, code: Path) -> subprocess.Popen[str]:
    """Another process, which submits a job "one" when it gets a line, and ends when it gets another."""
    command = [sys.executable, "-c", SUBMITS, str(local.folder), str(code)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)


def say(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_job_has_its_words_its_environment_and_its_code(local: Local, make: Make) -> None:
    program = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ['WHERE'], sorted(os.listdir())]))"
    submission = make("one", program, WHERE="here")
    assert local.status("one") == Status(State.MISSING)
    local.submit(submission)
    shutil.rmtree(submission.code)  # a job has a copy
    assert end_of(local, "one") == (State.SUCCEEDED, "")
    assert json.loads("".join(local.logs("one"))) == [["a b", "$HOME"], "here", ["pipelines"]]


def test_exit_statuses(local: Local, make: Make) -> None:
    for status in (0, 3, 75):
        local.submit(make(f"ends-{status}", f"raise SystemExit({status})"))
    assert end_of(local, "ends-0") == (State.SUCCEEDED, "")
    assert end_of(local, "ends-3") == (State.FAILED, "exit status 3")
    assert end_of(local, "ends-75") == (State.FAILED, "exit status 75")
    assert local.attach("ends-7") == {"ends-75": Status(State.FAILED, "exit status 75")}
    assert list(local.attach("")) == ["ends-0", "ends-3", "ends-75"]


def test_logs_come_while_it_runs_and_stay(local: Local, make: Make) -> None:
    program = """
import sys, time
from pathlib import Path
print("öne", flush=True)
while not Path("go on").exists():
    time.sleep(0.02)
print("two", file=sys.stderr, flush=True)
"""
    local.submit(make("one", program))
    pieces = local.logs("one")
    assert next(pieces) == "öne\n"
    assert local.status("one").state == State.RUNNING
    (local.folder / "one" / "code" / "go on").touch()
    assert "".join(pieces) == "two\n"
    assert end_of(local, "one") == (State.SUCCEEDED, "")
    for skip in (0, 2, 6, 100):  # characters, not bytes
        assert "".join(local.logs("one", skip)) == "öne\ntwo\n"[skip:]
    assert list(local.logs("another")) == []


def test_a_character_that_comes_in_two_parts_is_one(local: Local, make: Make) -> None:
    program = """
import os, time
from pathlib import Path
os.write(1, "ö".encode()[:1])
while not Path("go on").exists():
    time.sleep(0.02)
os.write(1, "ö".encode()[1:])
"""
    local.submit(make("one", program))
    until(lambda: (local.folder / "one" / "log.txt").stat().st_size == 1)
    pieces = local.logs("one")
    go_on = (local.folder / "one" / "code" / "go on").touch
    threading.Timer(0.3, go_on).start()
    assert "".join(pieces) == "ö"


def test_a_silent_log_ends_though_the_job_does_not(local: Local, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_SILENT_S", 0.3)
    local.submit(make("one", WAITS))
    begun(local.folder, "one")
    assert "".join(local.logs("one")) == "begun\n"
    assert local.status("one").state == State.RUNNING


def test_a_cancelled_job_saves_and_is_stopped(local: Local, make: Make) -> None:
    """What it has started gets no signal: Ray's daemons would end before the training has saved."""
    daemon = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    local.submit(make("one", daemon + WAITS))
    [child] = psutil.Process(begun(local.folder, "one")).children()
    local.cancel("one")
    assert end_of(local, "one") == (State.STOPPED, "exit status 75")
    assert "".join(local.logs("one")) == "begun\nsaved\n"
    assert child.is_running()
    child.kill()


def test_cancelling_what_has_ended_or_never_was_does_nothing(local: Local, make: Make) -> None:
    local.submit(make("one", "raise SystemExit(3)"))
    before = end_of(local, "one")
    local.cancel("one")
    local.cancel("another")
    assert end_of(local, "one") == before
    assert local.status("another").state == State.MISSING


def test_a_job_that_is_cancelled_before_it_begins_does_not_begin(local: Local, make: Make) -> None:
    """Its starter has made the folder and not yet the process."""
    submission = make("one", WAITS)
    job = local._job("one")
    with job.make(submission.code):
        assert local.status("one") == Status(State.WAITING)
        local.cancel("one")
        assert subprocess.run(job.command(submission.command), cwd=job.code, timeout=20).returncode == 75
    assert local.status("one") == Status(State.STOPPED, "exit status 75")
    assert not (job.code / "begun").exists()


def test_a_job_whose_processes_are_killed_has_failed(local: Local, make: Make) -> None:
    local.submit(make("one", WAITS))
    begun(local.folder, "one")
    os.killpg(local._job("one").process or 0, signal.SIGKILL)
    state, message = end_of(local, "one")
    assert (state, message) == (State.FAILED, "its processes were killed")


def test_a_job_lives_as_long_as_its_command(local: Local, make: Make) -> None:
    """Though its shell is killed, which would have kept its exit status."""
    local.submit(make("one", WAITS))
    command = begun(local.folder, "one")
    os.kill(local._job("one").process or 0, signal.SIGKILL)
    time.sleep(0.1)
    assert local.status("one").state == State.RUNNING
    os.kill(command, signal.SIGKILL)
    assert end_of(local, "one")[0] == State.FAILED


def test_the_number_of_a_dead_job_may_be_anothers(local: Local, make: Make) -> None:
    local.submit(make("one", WAITS))
    begun(local.folder, "one")
    job = local._job("one")
    os.killpg(job.process or 0, signal.SIGKILL)
    until(lambda: not job.held)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        (job.path / "process").write_text(str(os.getpid()))  # whose child the other is
        assert local.status("one") == Status(State.FAILED, "its processes were killed")
        local.cancel("one")
        time.sleep(0.1)
        assert other.poll() is None
        other.kill()


def test_a_name_is_taken_once(local: Local, make: Make) -> None:
    submission = make("one", "print('first')")
    local.submit(submission)
    with pytest.raises(AlreadyThere, match="there is a job one"):
        local.submit(submission)
    assert end_of(local, "one") == (State.SUCCEEDED, "")
    assert "".join(local.logs("one")) == "first\n"
    assert [path.name for path in local.folder.iterdir()] == ["one"]


def test_of_two_processes_one_submits(make: Make, tmp_path: Path) -> None:
    """Again and again, as both begin at the same moment."""
    code = make("source", "").code
    answers = []
    for turn in range(3):
        two = [submitter(Local(tmp_path / str(turn)), code) for _ in range(2)]
        for process in (*two, *two):
            say(process)
        answers.append(sorted(process.communicate(timeout=60)[0].strip() for process in two))
    assert answers == [["already there", "submitted"]] * 3


def test_it_goes_on_when_its_starter_is_killed(local: Local, make: Make) -> None:
    process = submitter(local, make("source", WAITS).code)
    say(process)
    assert process.stdout
    assert process.stdout.readline() == "submitted\n"
    begun(local.folder, "one")
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe
        pipe.close()
    assert local.status("one").state == State.RUNNING
    local.cancel("one")
    assert end_of(local, "one") == (State.STOPPED, "exit status 75")


def test_a_starter_that_is_killed_early_leaves_the_name_free_or_a_job_that_failed(local: Local, make: Make) -> None:
    submission = make("one", "print('done')")
    with local._job("one").make(submission.code):
        assert local.status("one").state == State.WAITING
    assert local.status("one") == Status(State.FAILED, "it did not begin: what started it was killed")
    (local.folder / ".two.half").mkdir()  # of one that was killed while it copied
    assert list(local.attach("")) == ["one"]
    submission = make("two", "print('done')")
    local.submit(submission)
    assert end_of(local, "two") == (State.SUCCEEDED, "")


def test_a_place_that_cannot_be_written_is_said(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PipelineError, match="cannot be made: Not a directory"):
        Local(tmp_path / "file" / "jobs").submit(make("one"))
    submission = make("two")
    shutil.rmtree(submission.code)
    with pytest.raises(PipelineError, match="cannot be made: No such file"):
        Local(tmp_path / "jobs").submit(submission)
    assert list((tmp_path / "jobs").iterdir()) == []


def test_what_is_known_of_old_jobs_is_cleared_away_by_the_next(local: Local, make: Make) -> None:
    for name, command in (("ended", "pass"), ("at-work", WAITS)):
        local.submit(make(name, command))
    end_of(local, "ended")
    begun(local.folder, "at-work")
    for name in ("ended", "at-work"):
        os.utime(local.folder / name / "lock", (0, 0))
    known = local.attach("")
    local.submit(make("next", "pass"))
    assert local.attach("").keys() == {"at-work", "next"}
    folder.forget(local.folder, known)  # as one who had looked before
