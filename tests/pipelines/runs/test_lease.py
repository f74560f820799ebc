"""The lock on S3 between real processes: one at a time, the dead and the frozen lose it, clocks do not matter."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

import pipelines
from pipelines.errors import RunLocked
from pipelines.runs import lease
from pipelines.runs.checkpoint import newest_checkpoint, save_checkpoint
from pipelines.runs.lock import RUN, WRITER, refuse_if_lost, run_lock, taken_over, writer_lock
from pipelines.runs.s3 import S3Store

TTL_S = 4.0

WORKER = """
import sys, time
import torch
from pipelines.errors import RunLocked
from pipelines.runs.checkpoint import save_checkpoint
from pipelines.runs.lock import RUN, WRITER
from pipelines.runs.s3 import S3Store
torch.set_num_threads(1)
run, which = S3Store(sys.argv[1]), {"run": RUN, "writer": WRITER}[sys.argv[2]]
with run.lock(which, 0, ttl_s=float(sys.argv[3])):
    print("held", flush=True)
    step = int(sys.argv[4])
    while True:
        sys.stdin.readline()
        try:
            save_checkpoint(run, step, {"weights": {"w": torch.full((1000,), float(step))}}, {})
            print("saved", flush=True)
        except RunLocked as error:
            print("refused", " ".join(str(error).split()), flush=True)
        step += 1
"""


class Holder:
    """A process that holds a lock and saves when it is told to."""

    def __init__(self, run, which, ttl_s, step, prefix=()):
        environment = {**os.environ, "PYTHONPATH": str(Path(pipelines.__path__[0]).parent)}
        command = [*prefix, sys.executable, "-c", WORKER, run.uri, which, str(ttl_s), str(step)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        self.first = self.process.stdout.readline().strip()

    def save(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@contextmanager
def holder(run, which="run", ttl_s=TTL_S, step=1, prefix=()):
    there = Holder(run, which, ttl_s, step, prefix)
    try:
        assert there.first == "held", there.process.stderr.read()
        yield there
    finally:
        there.process.kill()
        there.process.wait()
        for stream in (there.process.stdin, there.process.stdout, there.process.stderr):
            stream.close()


@pytest.fixture
def run(s3_run):
    return s3_run


def test_a_second_process_is_refused_and_told_who_holds_the_run(run, raw, capsys):
    with holder(run) as first:
        words = json.loads(raw.read("lock.json"))
        assert (words["pid"], words["host"]) == (first.process.pid, socket.gethostname())
        began = time.monotonic()
        with pytest.raises(RunLocked) as refusal, run.lock(RUN, 0, ttl_s=TTL_S):
            pytest.fail("two at once")
        assert time.monotonic() - began < TTL_S, "the first sign of life is enough"
        message = str(refusal.value)
        for part in (run.uri, f"process {first.process.pid} on {socket.gethostname()} since {words['started']}"):
            assert part in message
        assert f"is being worked on by process {first.process.pid}" in message
        assert f"stop it with `kill {first.process.pid}`" in message
        waiting = capsys.readouterr().err
        assert f"process {first.process.pid}" in waiting
        assert "waiting up to 4 s for a sign of life" in waiting
        assert first.save() == "saved"


def test_the_run_is_free_after_the_block_and_after_an_error(run):
    began = time.monotonic()
    with pytest.raises(KeyError), run_lock(run):
        raise KeyError
    for _ in range(2):
        with run_lock(run):
            pass
    assert time.monotonic() - began < 10, "nobody waits for the time to live of a lock that was given back"


def test_both_locks_of_a_run_and_other_runs_are_free(run):
    with run_lock(run), writer_lock(run, 0), run_lock(S3Store(f"{run.uri}-2")):
        pass


def test_one_process_cannot_take_it_twice(run):
    with run.lock(RUN, 0, ttl_s=TTL_S), pytest.raises(RunLocked, match=f"process {os.getpid()} "):
        run.lock(RUN, 0, ttl_s=TTL_S).__enter__()


def test_a_killed_holder_is_followed_after_the_time_to_live_and_not_before(run, capsys):
    with holder(run) as first:
        first.process.kill()
        first.process.wait()
        began = time.monotonic()
        with run.lock(RUN, 0, ttl_s=TTL_S):
            waited = time.monotonic() - began
    assert TTL_S <= waited < TTL_S + 10
    assert f"process {first.process.pid}" in capsys.readouterr().err


@pytest.mark.slow
def test_a_challenger_with_a_shorter_time_to_live_grants_the_holders(run):
    with holder(run, ttl_s=TTL_S) as first:
        first.process.kill()
        first.process.wait()
        began = time.monotonic()
        with run.lock(RUN, 0, ttl_s=1.0):
            assert time.monotonic() - began >= TTL_S


@pytest.mark.parametrize("which", [pytest.param("run", marks=pytest.mark.slow), "writer"])
def test_a_frozen_holder_that_wakes_up_writes_nothing_any_more(run, raw, which):
    with holder(run, which, step=10) as first:
        assert first.save() == "saved"
        first.process.send_signal(signal.SIGSTOP)
        with holder(run, which, step=20) as second:
            assert second.save() == "saved"
            before = [(file, raw.read(file)) for file in raw.files() if file.startswith("step-")]
            first.process.send_signal(signal.SIGCONT)
            said, until = first.save(), time.monotonic() + 60
            while "was taken over by" not in said and time.monotonic() < until:
                assert said.startswith("refused the lock of the run in ")
                said = first.save()
            assert said.startswith(f"refused the run in {run.uri} was taken over by process {second.process.pid}")
            assert [(file, raw.read(file)) for file in raw.files() if file.startswith("step-")] == before
            assert json.loads(raw.read({"run": "lock.json", "writer": "writer.lock"}[which]))["pid"] == (
                second.process.pid
            )
            assert second.save() == "saved"
            assert newest_checkpoint(run)[0].step == 21


@pytest.mark.slow
def test_a_frozen_holder_refuses_before_it_knows_of_the_other(run):
    """Its own clock is enough: its first save comes before its thread can have asked the server."""
    with holder(run, step=10) as first:
        first.process.send_signal(signal.SIGSTOP)
        time.sleep(TTL_S + 0.5)
        first.process.stdin.write("\n")
        first.process.stdin.flush()
        first.process.send_signal(signal.SIGCONT)
        said = first.process.stdout.readline()
        if said.startswith("refused"):
            assert "could not be renewed for" in said
        time.sleep(TTL_S / 2)
        assert first.save() == "saved", "nobody has taken it over, so that it goes on once it is renewed"


@pytest.mark.root
@pytest.mark.slow
def test_clocks_that_differ_do_not_matter(run):
    """The holder's clocks that count from the start of a machine are a day ahead (a time namespace of Linux)."""
    prefix = ("unshare", "--time", "--monotonic", "86400", "--boottime", "172800")
    with holder(run, prefix=prefix) as first:
        with pytest.raises(RunLocked), run.lock(RUN, 0, ttl_s=TTL_S):
            pytest.fail("two at once")
        assert first.save() == "saved"
        first.process.kill()
        first.process.wait()
        began = time.monotonic()
        with run.lock(RUN, 0, ttl_s=TTL_S):
            assert TTL_S <= time.monotonic() - began < TTL_S + 10


def test_the_writers_lock_waits_for_the_one_before(run, capsys):
    with holder(run, "writer") as first:
        began = time.monotonic()
        with pytest.raises(RunLocked, match=f"is being written by process {first.process.pid}.*worker 0 of a training"):
            run.lock(WRITER, 2.0, ttl_s=TTL_S).__enter__()
        assert 2 <= time.monotonic() - began < 2 + TTL_S
        assert "waiting up to 2 s for its end" in capsys.readouterr().err
        stop = subprocess.Popen(["/bin/sh", "-c", f"sleep 2; kill -9 {first.process.pid}"])
        began = time.monotonic()
        with run.lock(WRITER, 60, ttl_s=TTL_S):
            assert 1 + TTL_S <= time.monotonic() - began < 2 + TTL_S + 15
        stop.wait()


def test_a_holder_whose_lease_ran_out_leaves_no_note_either(run, raw, monkeypatch):
    with run.lock(RUN, 0, ttl_s=1.0):
        run.note("unusual/step-00000001.json", b"before")
        later = count(lease._now() + 60, 60)
        monkeypatch.setattr(lease, "_now", lambda: next(later))  # no renewal is soon enough
        with pytest.raises(RunLocked, match="could not be renewed for"):
            run.note("unusual/step-00000001.json", b"after")
    assert raw.read("unusual/step-00000001.json") == b"before"


@pytest.mark.slow
def test_a_holder_that_cannot_reach_the_server_writes_nothing(own_s3_server, groups):
    """It cannot know whether another has taken over; once it renews the lease again, nobody has."""
    run = S3Store("s3://runs/outage")
    with run.lock(RUN, 0, ttl_s=TTL_S):
        save_checkpoint(run, 1, groups(1), {})
        own_s3_server.signal(signal.SIGSTOP)
        time.sleep(TTL_S + 1)
        with pytest.raises(RunLocked, match=r"could not be renewed for \d+ s \(at most 4\)"):
            run.commit("step-00000002", iter([("a", b"a")]), {})
        own_s3_server.signal(signal.SIGCONT)
        save_checkpoint(run, 2, groups(2), {})  # waits for the renewal
    assert newest_checkpoint(run)[0].step == 2


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": 1}', b"x" * 10_000])
def test_what_is_left_by_nobody_is_taken_over(run, raw, content):
    raw.write("lock.json", content)
    with run.lock(RUN, 0, ttl_s=1.0):
        assert json.loads(raw.read("lock.json"))["pid"] == os.getpid()


def test_a_lease_that_a_person_has_deleted_is_put_again(run, raw):
    with run.lock(RUN, 0, ttl_s=2.0):
        raw.delete("lock.json")
        time.sleep(1.5)
        assert json.loads(raw.read("lock.json"))["pid"] == os.getpid()


def test_a_holder_learns_by_whom_its_run_was_taken_over(run, raw):
    other = json.dumps({"pid": 5, "host": "elsewhere", "started": "today", "command": "train", "token": "another"})
    with run.lock(RUN, 0, ttl_s=2.0):
        assert taken_over(run) is None
        refuse_if_lost(run)
        raw.write("lock.json", other.encode())
        until = time.monotonic() + 20
        while not (by := taken_over(run)) and time.monotonic() < until:
            time.sleep(0.05)
        assert by == "process 5 on elsewhere since today (train)"
        with pytest.raises(RunLocked, match="was taken over by process 5 on elsewhere"):
            refuse_if_lost(run)
    assert taken_over(run) is None


def test_a_forked_copy_that_leaves_the_block_frees_nothing(run):
    copy = None
    try:
        with run.lock(RUN, 0, ttl_s=TTL_S):
            copy = os.fork()
            if copy == 0:
                raise KeyboardInterrupt
            assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == 0
            with pytest.raises(RunLocked):
                run.lock(RUN, 0, ttl_s=TTL_S).__enter__()
    except KeyboardInterrupt:
        os._exit(0 if copy == 0 else 1)
