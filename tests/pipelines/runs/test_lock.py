"""One process at a time, told who the other is; the dead hold nothing."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

import pipelines
from pipelines.errors import CheckpointError, RunLocked
from pipelines.runs.local import LocalStore
from pipelines.runs.lock import RUN, WRITER, run_lock, writer_lock

LOCK = RUN.file


@pytest.fixture
def run(local_run):
    return local_run


HOLD = """
import sys, time
from pathlib import Path
from pipelines.runs.local import LocalStore
from pipelines.runs.lock import run_lock
with run_lock(LocalStore(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(300)
"""

HOLD_WITH_CHILDREN = """
import os, subprocess, sys, time
from pathlib import Path
from pipelines.runs.local import LocalStore
from pipelines.runs.lock import run_lock
with run_lock(LocalStore(Path(sys.argv[1]))):
    program = subprocess.Popen(["sleep", "300"], close_fds=False)
    read, write = os.pipe()
    copy = os.fork()
    if copy == 0:
        os.write(write, b"x")
        time.sleep(300)
        os._exit(0)
    os.read(read, 1)
    print(program.pid, copy, flush=True)
    time.sleep(300)
"""


WRITE = HOLD.replace("run_lock", "writer_lock").replace("Path(sys.argv[1])))", "Path(sys.argv[1])), 0)")


@contextmanager
def process(code, folder):
    """A Python process, its first line of output read; killed at the end if it is still there."""
    environment = {**os.environ, "PYTHONPATH": str(Path(pipelines.__path__[0]).parent)}
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        yield child, child.stdout.readline()
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_a_second_process_is_refused_and_told_who_holds_the_run(run):
    with process(HOLD, run.folder) as (holder, _):
        started = json.loads((run.folder / LOCK).read_text())["started"]
        with pytest.raises(RunLocked) as refusal, run_lock(run):
            pytest.fail("two at once")
        message = str(refusal.value)
        for part in (str(run), f"process {holder.pid} on {socket.gethostname()} since {started}", f"kill {holder.pid}"):
            assert part in message
        assert sys.executable in message


def test_the_second_process_refuses_with_the_same_words_and_leaves_the_first_its_signature(run):
    with run_lock(run):
        signature = (run.folder / LOCK).read_text()
        assert json.loads(signature)["pid"] == os.getpid()
        with process(f"import signal\n{HOLD}", run.folder) as (second, line):
            assert line == ""
            assert second.wait(timeout=60) == 1
        assert (run.folder / LOCK).read_text() == signature


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_process_holds_nothing(run, how):
    with process(HOLD, run.folder) as (holder, _):
        holder.send_signal(how)
        holder.wait(timeout=60)
        assert (run.folder / LOCK).exists()
        with run_lock(run):
            assert json.loads((run.folder / LOCK).read_text())["pid"] == os.getpid()


def test_children_of_a_killed_process_do_not_hold_its_run(run):
    with process(HOLD_WITH_CHILDREN, run.folder) as (holder, line):
        children = [int(word) for word in line.split()]
        try:
            with pytest.raises(RunLocked), run_lock(run):
                pytest.fail("two at once")
            holder.kill()
            holder.wait(timeout=60)
            for child in children:
                os.kill(child, 0)  # still alive
            with run_lock(run):
                pass
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)


def test_a_forked_copy_that_leaves_the_block_frees_nothing(run):
    """Neither its parent's lock, nor a file of its own that was given the number of the lock's descriptor."""
    copy = None
    try:
        with run_lock(run):
            copy = os.fork()
            if copy == 0:
                file = os.open(os.devnull, os.O_RDONLY)
                raise _LeaveCopy(file)
            assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == 0
            with pytest.raises(RunLocked), run_lock(run):
                pytest.fail("the copy has freed its parent's lock")
    except _LeaveCopy as leave:
        still_open = Path(f"/proc/self/fd/{leave.args[0]}").exists()
        os._exit(0 if still_open else 1)


class _LeaveCopy(Exception):
    pass


def test_the_run_is_free_after_the_block_and_after_an_error(run):
    with pytest.raises(KeyError), run_lock(run):
        raise KeyError
    with run_lock(run):
        pass
    with run_lock(run):
        pass


def test_one_process_cannot_take_it_twice(run):
    with run_lock(run), pytest.raises(RunLocked, match=f"process {os.getpid()} "), run_lock(run):
        pytest.fail("two at once")


def test_other_runs_are_free(tmp_path):
    with run_lock(LocalStore(tmp_path / "a")), run_lock(LocalStore(tmp_path / "b")):
        pass


@pytest.mark.parametrize("left", ["", "{", "[]", '{"pid": 1}', "x" * 10_000])
def test_what_a_file_holds_does_not_lock_it(run, left):
    run.folder.mkdir()
    (run.folder / LOCK).write_text(left)
    with run_lock(run):
        assert set(json.loads((run.folder / LOCK).read_text())) == {"pid", "host", "started", "command"}


def test_a_holder_that_has_not_signed_yet_is_no_crash(run):
    with run_lock(run):
        (run.folder / LOCK).write_text("")
        with pytest.raises(RunLocked, match="another process; try again"), run_lock(run):
            pytest.fail("two at once")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(CheckpointError, match="file/run cannot be written"),
        run_lock(LocalStore(tmp_path / "file" / "run")),
    ):
        pytest.fail("there is no folder")


def test_the_writers_lock_is_another_one_and_waits_for_the_writer_before(run, capsys):
    with process(WRITE, run.folder) as (writer, line), run_lock(run):
        assert line == "held\n"
        began = time.monotonic()
        words = f"is being written by process {writer.pid} on .*worker 0 of a training.*kill {writer.pid}"
        with pytest.raises(RunLocked, match=words), writer_lock(run, 1):
            pytest.fail("two at once")
        assert 1 <= time.monotonic() - began < 10
        assert f"waiting up to 1 s for process {writer.pid}" in capsys.readouterr().err
        words = json.loads((run.folder / WRITER.file).read_text())
        assert words["command"] == "worker 0 of a training", "a worker's command line may hold passwords"
        threading.Timer(1, writer.kill).start()
        began = time.monotonic()
        with writer_lock(run, 60):
            assert 0.5 < time.monotonic() - began < 30


def test_an_orphaned_writer_that_is_frozen_is_waited_for_no_longer_than_said(run):
    with process(WRITE, run.folder) as (writer, _):
        writer.send_signal(signal.SIGSTOP)
        with pytest.raises(RunLocked, match=f"kill {writer.pid}"), writer_lock(run, 0.5):
            pytest.fail("two at once")
