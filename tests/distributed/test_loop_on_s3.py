"""The loop with its checkpoints on S3: the same bits as in a folder, however often its process dies."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import StoreError
from pipelines.runs import s3_client
from pipelines.runs.checkpoint import newest_checkpoint
from pipelines.runs.s3 import S3Store
from pipelines.runs.s3_client import Patience

LOOP = """
import json, os, signal, sys
from http.client import HTTPConnection
from pathlib import Path
import torch
from pipelines.cluster.events import Started
from pipelines.cluster.job import Job, Place
from pipelines.cluster.loop import Loop
from pipelines.params import Params
from pipelines.runs.s3 import S3Store

params, prepared, uri, kill_at = json.loads(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
torch.set_num_threads(1)
puts, send = 0, HTTPConnection.send

def watched(connection, data):
    global puts
    if data.startswith(b"PUT") and b"safetensors" in data[:300]:
        puts += 1
        if puts == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    return send(connection, data)

HTTPConnection.send = watched
def tell(event):
    if isinstance(event, Started):
        print(event.step, flush=True)

job = Job(Params.model_validate(params), prepared, S3Store(uri), "0123456789abcdef", every_steps=3, keep=2)
Loop(job, Place(0, 1, torch.device("cpu")), tell).run()
"""


def test_killed_while_it_saves_and_resumed_it_ends_in_the_bits_of_a_local_run(lab: Any, s3: str) -> None:
    """A save puts 5 files of tensors; the process dies at the 2nd of the first save, then at the 3rd of its second."""
    local, run = lab.job("local"), S3Store(f"{s3}/run")
    lab.run(local)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-c", LOOP, local.params.model_dump_json(by_alias=True), str(lab.prepared), run.uri]
    starts, reached = [], []
    for kill_at in (2, 8, 0):
        newest, skipped = newest_checkpoint(run)
        assert skipped == []
        reached.append(newest.step if newest else 0)
        done = subprocess.run(
            [*command, str(kill_at)], env=environment, stdout=subprocess.PIPE, text=True, timeout=120, check=False
        )
        assert done.returncode == (-9 if kill_at else 0)
        starts.append(int(done.stdout))
    assert starts == reached == [0, 0, 3]
    job = lab.job(run)
    assert lab.digest(job) == lab.digest(local)
    assert lab.final(job).state["resumed_from"] == [3]
    assert sorted(run.names()) == ["step-00000009", "step-00000010-final"]


def test_a_server_that_goes_away_stops_the_training_with_its_name(
    lab: Any, own_s3_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_client, "PATIENCE", Patience(1, 1, attempts=2))
    job = lab.job(S3Store("s3://runs/run"))
    loop = lab.loop(job)
    after_step = loop._after_step

    def stopping(step: int, heard: Any) -> None:
        if step == 5:
            own_s3_server.signal(9)
            own_s3_server.process.wait()
        after_step(step, heard)

    loop._after_step = stopping
    with pytest.raises(StoreError, match=rf"s3://runs/run.*{own_s3_server.url} did not answer"):
        loop.run()
