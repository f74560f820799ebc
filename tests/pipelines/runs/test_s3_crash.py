"""A save on S3 that is killed before any of its requests, or in the middle of sending one, leaves nothing half."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pipelines
from pipelines.runs import s3 as s3_module
from pipelines.runs.checkpoint import newest_checkpoint, prune, save_checkpoint
from pipelines.runs.s3 import S3Store
from pipelines.runs.s3_client import client
from tests.pipelines.runs.raw import RawBucket

KILLED = '''
"""Save step 500 in one child after the other, each killed at its n-th request."""
import os, signal, sys
from http.client import HTTPConnection

import torch

from pipelines.runs.checkpoint import prune, save_checkpoint
from pipelines.runs.s3 import S3Store

torch.set_num_threads(1)
base, how = sys.argv[1:]


def tensors(step):
    """As in conftest.py."""
    return {
        "weights": {"conv.weight": torch.full((3, 2), float(step)), "conv.bias": torch.full((3,), float(step))},
        "ema": {"conv.weight": torch.full((3, 2), step / 2), "conv.bias": torch.full((3,), step / 2)},
        "optimizer": {"step": torch.tensor(step)},
    }


def kill_at(number):
    count = 0
    send = HTTPConnection.send

    def watched(connection, data):
        nonlocal count
        if count == number:
            if how == "while":
                send(connection, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        return send(connection, data)

    HTTPConnection.send = watched


def save(run, step):
    save_checkpoint(run, step, tensors(step), {"step": step})


for number in range(1000):
    run = S3Store(f"{base}/run-{number:03d}")
    for step in (200, 300):
        save(run, step)
    child = os.fork()
    if child == 0:
        kill_at(number)
        save(run, 500)
        prune(run, keep=2)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(number, flush=True)
    if os.waitstatus_to_exitcode(status) == 0:
        break
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, status
'''


@pytest.mark.parametrize("how", ["before", pytest.param("while", marks=pytest.mark.slow)])
def test_any_request_may_be_the_last_of_a_killed_process(s3, same, how):
    environment = {**os.environ, "PYTHONPATH": str(Path(pipelines.__path__[0]).parent)}
    command = [sys.executable, "-c", KILLED, s3, how]
    found = subprocess.run(command, check=True, env=environment, timeout=300, stdout=subprocess.PIPE, text=True)
    number = int(found.stdout.split()[-1])
    assert number >= 12, "a save and a prune make at least so many requests"
    seen = []
    for killed_at in range(number + 1):
        run = S3Store(f"{s3}/run-{killed_at:03d}")
        checkpoint, skipped = newest_checkpoint(run)
        assert skipped == []
        assert same(checkpoint, checkpoint.step)
        seen.append(checkpoint.step)
        prune(run, keep=2)
        raw = RawBucket(run)
        whole = {f"step-{step:08d}" for step in ((200, 300) if checkpoint.step == 300 else (300, 500))}
        assert {file.split("/")[0] for file in raw.files()} == whole, "what was begun or half removed is gone"
        raw.client.close()
    assert seen == sorted(seen)
    assert set(seen) == {300, 500}, "there is one request that commits"
    assert seen.count(300) >= 5


def operations(call):
    """The requests that a call makes, by name, with the last part of their keys."""
    found = []

    def hear(model, params, **more):
        query = params.get("url_path", "")
        found.append((model.name, query.rpartition("/")[2]))

    events = client().meta.events
    events.register("before-call.s3", hear)
    try:
        call()
    finally:
        events.unregister("before-call.s3", hear)
    return found


def test_the_manifest_is_put_last_and_removed_first(s3_run, groups):
    files = ["weights.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json", "manifest.json"]
    save = lambda step: save_checkpoint(s3_run, step, groups(step), {})  # noqa: E731
    assert [key for name, key in operations(lambda: save(1)) if name == "PutObject"] == files
    assert [name for name, _ in operations(lambda: save(1)) if "Put" in name or "Delete" in name] == []
    removed = [key for name, key in operations(lambda: s3_run.remove("step-00000001")) if name == "DeleteObject"]
    assert removed[0] == "manifest.json"
    assert sorted(removed) == sorted(files)


def test_a_large_file_is_put_in_parts_and_what_a_kill_leaves_of_them_goes(s3_run, monkeypatch, s3_server):
    monkeypatch.setattr(s3_module, "PART", 5 << 20)
    tensors = {"weights": {"w": torch.arange(3_000_000.0)}}
    made = operations(lambda: save_checkpoint(s3_run, 1, tensors, {}))
    assert [name for name, _ in made if "Part" in name].count("UploadPart") == 3
    assert torch.equal(newest_checkpoint(s3_run)[0].load("weights")["w"], tensors["weights"]["w"])
    bucket, _, prefix = s3_run.uri.removeprefix("s3://").partition("/")
    s3_server.client.create_multipart_upload(Bucket=bucket, Key=f"{prefix}/step-00000002/weights.safetensors")
    unfinished = lambda: s3_server.client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])  # noqa: E731
    assert [each["Key"].split("/")[-2] for each in unfinished()] == ["step-00000002"]
    prune(s3_run, keep=2)
    assert unfinished() == []
