"""A server that is away, slow, broken or strange: bounded time, a clear error, nothing lost, no secret told."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch

import pipelines
from pipelines.errors import CheckpointError, ParamsError, StoreError
from pipelines.runs import s3_client
from pipelines.runs.address import store_at
from pipelines.runs.checkpoint import checkpoint_at, newest_checkpoint, prune, save_checkpoint
from pipelines.runs.local import LocalStore
from pipelines.runs.lock import RUN
from pipelines.runs.s3 import S3Store
from pipelines.runs.s3_client import Patience
from tests.conftest import SECRET
from tests.pipelines.runs.proxy import proxy


@pytest.fixture
def run(s3_run, monkeypatch):
    monkeypatch.setattr(s3_client, "PATIENCE", Patience(connect_s=1, read_s=1, attempts=2))
    return s3_run


def everything(run, groups):
    """Each thing that a training asks of the store, by name."""
    return {
        "newest": lambda: newest_checkpoint(run),
        "at": lambda: checkpoint_at(run, 1),
        "save": lambda: save_checkpoint(run, 2, groups(2), {}),
        "prune": lambda: prune(run, 2),
        "lock": lambda: run.lock(RUN, 0, ttl_s=4.0).__enter__(),
    }


def assert_all_fail(run, groups, match, seconds):
    for name, call in everything(run, groups).items():
        began = time.monotonic()
        with pytest.raises(StoreError, match=match) as caught:
            call()
        assert time.monotonic() - began < seconds, name
        assert SECRET not in str(caught.value)
        assert str(caught.value).startswith("s3://runs/")
        assert caught.value.__suppress_context__, "boto's own words may hold more than ours"


def test_a_server_that_is_down(own_s3_server, run, save, groups, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", own_s3_server.url)
    own_s3_server.signal(signal.SIGKILL)
    own_s3_server.process.wait()
    match = rf"S3 at {own_s3_server.url} did not answer in time or broke off \(\w+\)\. Check AWS_ENDPOINT_URL"
    assert_all_fail(run, groups, match, seconds=15)


def test_a_server_that_hangs(own_s3_server, run, groups, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", own_s3_server.url)
    own_s3_server.signal(signal.SIGSTOP)
    try:
        assert_all_fail(run, groups, r"did not answer in time or broke off \(\w*Timeout\w*\)", seconds=15)
    finally:
        own_s3_server.signal(signal.SIGCONT)


@pytest.mark.parametrize(("status", "remedy"), [(500, "run the stage again"), (503, "run the stage again")])
def test_a_server_that_answers_with_errors(run, s3_server, groups, monkeypatch, status, remedy):
    answer = f"<Error><Code>Trouble</Code><Message>the key is {SECRET}</Message></Error>".encode()
    with proxy(s3_server.port, lambda method, path: status, answer) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address.replace("//", f"//me:{SECRET}@"))
        assert_all_fail(run, groups, rf"S3 at {address} answered {status} Trouble to \w+\. .*{remedy}", seconds=15)


def test_a_server_that_lets_nobody_in(run, s3_server, groups, monkeypatch):
    answer = b"<Error><Code>AccessDenied</Code></Error>"
    with proxy(s3_server.port, lambda method, path: 403, answer) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        assert_all_fail(run, groups, "answered 403 AccessDenied to .*AWS_ACCESS_KEY_ID", seconds=15)


def test_a_server_that_lacks_conditional_puts(run, s3_server, monkeypatch):
    answer = b"<Error><Code>NotImplemented</Code></Error>"
    judge = lambda method, path: 501 if method == "PUT" else None  # noqa: E731
    with proxy(s3_server.port, judge, answer) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        with pytest.raises(StoreError, match=r"answered 501 NotImplemented to PutObject.*shared folder"):
            run.lock(RUN, 0, ttl_s=4.0).__enter__()


def test_a_bucket_that_is_not_there(s3, groups):
    with pytest.raises(StoreError, match=r"answered 404 NoSuchBucket .* Create the bucket, or correct storage\.uri"):
        newest_checkpoint(S3Store("s3://no-such-bucket/run"))
    with pytest.raises(StoreError, match="NoSuchBucket"):
        save_checkpoint(S3Store("s3://no-such-bucket/run"), 1, groups(1), {})


def test_without_credentials(s3, tmp_path):
    code = "import sys; from pipelines.runs.s3 import S3Store; S3Store(sys.argv[1]).names()"
    environment = {name: value for name, value in os.environ.items() if "KEY" not in name and "AWS_SEC" not in name}
    environment |= {"PYTHONPATH": str(Path(pipelines.__path__[0]).parent), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", code, s3]
    said = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False).stderr
    assert "no credentials for S3 at http" in said
    assert "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE" in said


def test_what_cannot_be_read_is_no_damage(run, raw, save, s3_server, groups, monkeypatch):
    """Else training would begin anew, and a save would remove what is there."""
    save(1)
    save(2)
    before = raw.files()
    for broken in ("weights", "manifest"):
        judge = lambda method, path, broken=broken: 500 if broken in path and method == "GET" else None  # noqa: E731
        with monkeypatch.context() as patch, proxy(s3_server.port, judge) as address:
            patch.setenv("AWS_ENDPOINT_URL", address)
            for call in (lambda: newest_checkpoint(run), lambda: save(2), lambda: prune(run, 2)):
                with pytest.raises(StoreError, match=rf"{broken}\.\w+ could not be read"):
                    call()
    assert raw.files() == before


def test_an_answer_that_breaks_off_is_read_on(run, s3_server, monkeypatch):
    tensors = {"weights": {"w": torch.rand(1_000_000)}}
    save_checkpoint(run, 1, tensors, {})
    cut = []

    def judge(method, path):
        if method == "GET" and "weights" in path and len(cut) % 3 < 2:
            cut.append(path)
            return "cut"
        cut.append(None) if "weights" in path else None
        return None

    with proxy(s3_server.port, judge) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        checkpoint, skipped = newest_checkpoint(run)
        assert skipped == []
        assert torch.equal(checkpoint.load("weights")["w"], tensors["weights"]["w"])
    assert [each is None for each in cut] == [False, False, True] * 2


def test_answers_that_always_break_off_are_no_damage(run, save, s3_server, monkeypatch):
    save(1)
    with proxy(s3_server.port, lambda method, path: "cut" if "ema" in path else None) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        with pytest.raises(StoreError, match=r"ema\.safetensors could not be read: .* did not answer in time or broke"):
            newest_checkpoint(run)


def test_an_answer_that_is_lost_is_no_failure(run, save, same, s3_server, monkeypatch):
    """The put is repeated; the manifest, which may only be put once, is there already then, and it is ours."""
    lost = set()

    def judge(method, path):
        if method == "PUT" and path not in lost:
            lost.add(path)
            return "lose"
        return None

    with proxy(s3_server.port, judge) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        save(1)
        with run.lock(RUN, 0, ttl_s=4.0):
            save(2)
    assert len(lost) == 11
    assert same(newest_checkpoint(run)[0], 2)


def test_two_that_write_one_checkpoint_do_not_both_commit(run, save, raw):
    """As after a lock that failed: the second finds a manifest where it has just removed one."""
    save(1)

    def meanwhile():
        yield "weights.safetensors", b"mine"
        raw.write("step-00000002/manifest.json", b"theirs")

    with pytest.raises(CheckpointError, match="could not be committed: another process was writing it"):
        run.commit("step-00000002", meanwhile(), {"step": 2, "final": False})
    assert raw.read("step-00000002/manifest.json") == b"theirs"
    checkpoint, skipped = newest_checkpoint(run)
    assert (checkpoint.step, [skip.name for skip in skipped]) == (1, ["step-00000002"])


def test_a_server_that_goes_away_while_it_commits_is_not_taken_for_another_process(run, s3_server, monkeypatch):
    judge = lambda method, path: {"PUT": 412, "GET": 500}.get(method) if "manifest" in path else None  # noqa: E731
    with proxy(s3_server.port, judge) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        with pytest.raises(StoreError, match=r"manifest\.json could not be read: .* answered 500"):
            run.commit("step-00000002", iter([("weights.safetensors", b"mine")]), {"step": 2, "final": False})


def test_a_store_is_sent_to_workers_without_secrets(run, save):
    save(1)
    sent = bytes(ForkingPickler.dumps(run))
    assert ForkingPickler.loads(sent) == run
    for secret in (SECRET, "AWS", "127.0.0.1"):
        assert secret.encode() not in sent
        assert secret not in repr(run)
    assert len(sent) < 300


def test_addresses(tmp_path):
    assert store_at("s3://bucket/some/runs/", "key") == S3Store("s3://bucket/some/runs/key")
    assert store_at("s3://bucket", "key") == S3Store("s3://bucket/key")
    assert store_at(str(tmp_path), "key") == LocalStore(tmp_path / "key")


@pytest.mark.parametrize(
    "uri",
    [f"s3://me:{SECRET}@bucket/runs", f"s3://bucket/runs?secret={SECRET}", "s3://", "s3://b/", "s3://bucket//runs"],
)
def test_addresses_with_more_than_bucket_and_prefix_are_refused_without_being_told(uri):
    with pytest.raises(ParamsError, match="must be s3://bucket/prefix and nothing else") as caught:
        store_at(uri, "key")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("scheme", ["gs", "file", "S3", "https", "hdfs", "s3a"])
def test_other_schemes_are_refused_with_those_that_work(scheme):
    with pytest.raises(ParamsError, match=rf"a folder that all workers see or s3://bucket/prefix, got .* {scheme}://"):
        store_at(f"{scheme}://me:{SECRET}@host/runs", "key")


def test_an_endpoint_that_is_no_address_is_not_told(run, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"me:{SECRET}@host")
    with pytest.raises(StoreError, match=r"AWS_ENDPOINT_URL is not an address: give http://host:port") as caught:
        run.names()
    assert SECRET not in str(caught.value)


_FIRST_CALLS = """
import threading, time
from concurrent.futures import ThreadPoolExecutor

def slow(frame, event, argument):
    if frame.f_code.co_filename.endswith("boto3/__init__.py"):
        time.sleep(0.05)
        return slow

def call(wait):
    time.sleep(wait)
    with s3_errors("nothing"):
        client()

threading.settrace(slow)
from pipelines.runs.s3_client import client, s3_errors
with ThreadPoolExecutor(16) as pool:
    list(pool.map(call, [0.05 * number for number in range(16)]))
"""


def test_threads_may_be_the_first_to_need_it_together():
    """Here the import of boto3 takes so long that many meet it half done."""
    where = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_REGION": "us-east-1",
        "PYTHONPATH": str(Path(pipelines.__path__[0]).parent),
    }
    done = subprocess.run(
        [sys.executable, "-c", _FIRST_CALLS], env=os.environ | where, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
