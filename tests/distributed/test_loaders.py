"""Loader processes: the same bits, the right order, and an end in every case. All processes here are real."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from diffusion.training.echo import Heard
from diffusion.training.shard import Shard, ShardMaker
from pipelines.cluster.assemble import batches
from pipelines.cluster.events import Started
from pipelines.cluster.job import Job
from pipelines.cluster.loaders import LoaderError, Loaders
from pipelines.cluster.trainer import train
from pipelines.data.dataset import open_split
from pipelines.runs.checkpoint import newest_checkpoint
from pipelines.settings import RaySettings, Settings
from pipelines.train import make_job

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def maker(lab: Any) -> ShardMaker:
    """Of 4 shards of 4 digits."""
    split = open_split(lab.prepared, "train")
    return ShardMaker(split, batches(lab.job().params, len(split)), flip=True, draws=True)


@pytest.fixture
def loaders(maker: ShardMaker) -> Iterator[Loaders]:
    """Two processes for a worker that owns the shards 1 and 2; not patient, but they have time to start."""
    made = Loaders(maker, range(1, 3), 2, patience_s=10)
    yield made
    made.close()


def equal(one: Shard, other: Shard) -> bool:
    assert one.draws is not None
    assert other.draws is not None
    assert one.draws.flip is not None
    assert other.draws.flip is not None
    return (
        torch.equal(one.images, other.images)
        and torch.equal(one.draws.eps, other.draws.eps)
        and torch.equal(one.draws.flip, other.draws.flip)
    )


def gone(pids: list[int], within_s: float) -> bool:
    """Whether none of the processes runs any more."""
    give_up = time.monotonic() + within_s
    while any(running(pid) for pid in pids):
        if time.monotonic() > give_up:
            return False
        time.sleep(0.05)
    return True


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


OTHER = {
    "times": "importance",
    "reduction": "fast",
    "microbatch": 2,
    "label_dropout": 0.25,
    "model": {"class_conditional": True},
}


@pytest.mark.parametrize("changes", [{}, pytest.param(OTHER, marks=pytest.mark.slow)])
def test_any_number_of_loaders_ends_in_the_same_bits(lab: Any, changes: dict[str, Any]) -> None:
    """With dropout and flips; and once in two parts, resumed with another number."""
    lab.run(alone := lab.job("0", **changes))
    for loaders in (1, 4):
        lab.run(replace(lab.job(str(loaders), **changes), loaders=loaders))
        assert lab.digest(lab.job(str(loaders), **changes)) == lab.digest(alone), loaders
    lab.run(replace(lab.job("resumed", steps=5, **changes), loaders=4))
    events = lab.run(replace(lab.job("resumed", **changes), loaders=1))
    assert events[0].step == 5
    assert lab.digest(lab.job("resumed", **changes)) == lab.digest(alone)
    assert multiprocessing.active_children() == []


def test_shards_come_in_order_and_others_do_not_disturb_it(loaders: Loaders, maker: ShardMaker) -> None:
    asked = [(5, 1), (5, 2), (6, 1), (5, 1), (6, 0), (6, 2), (0, 3), (7, 1), (7, 2)]  # from step 5, and looked back
    pids = set()
    for step, shard in asked:
        assert equal(loaders(step, shard), maker(step, shard)), (step, shard)
        pids.add(tuple(loaders.pids))
    assert len(pids) == 1
    assert equal(loaders(9, 2), maker(9, 2))  # ahead of its turn: begun anew
    assert equal(loaders(10, 1), maker(10, 1))
    assert not set(loaders.pids) & set(*pids)
    assert gone(list(*pids), 5)


def test_a_shard_that_is_not_ones_own_starts_nothing(loaders: Loaders, maker: ShardMaker) -> None:
    assert equal(loaders(3, 0), maker(3, 0))
    assert loaders.pids == []


def test_torchs_global_generator_is_left_alone(loaders: Loaders) -> None:
    before = torch.get_rng_state()
    for step in range(3):
        loaders(step, 1), loaders(step, 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loader_that_is_killed_is_named(loaders: Loaders) -> None:
    loaders(0, 1)
    both, victim = loaders.pids, loaders.pids[1]
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(LoaderError, match=rf"^loader process {victim} was killed by signal 9\. .*loaders_per_worker"):
        take(loaders)
    assert gone(both, 5)


def take(loaders: Loaders) -> None:
    """Go on until what was made ahead is used up."""
    loaders(0, 2)
    for step in range(1, 50):
        loaders(step, 1)
        loaders(step, 2)


def test_loaders_that_are_stuck_are_named_and_killed(loaders: Loaders) -> None:
    loaders(0, 1)
    both = loaders.pids
    for pid in both:
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(LoaderError, match=rf"^the loader processes {both[0]}, {both[1]} gave nothing for 10 s\. "):
        take(loaders)
    assert gone(both, 5)


def test_a_training_fails_with_its_loader_and_leaves_no_process(lab: Any) -> None:
    job = replace(lab.job(), loaders=2)
    loop = lab.loop(job)
    ahead, after_step = loop._objective.minibatches.ahead, loop._after_step

    def kill(step: int, heard: Heard | None) -> None:
        os.kill(ahead.pids[0], signal.SIGKILL)
        after_step(step, heard)

    loop._after_step = kill
    with pytest.raises(LoaderError, match="was killed by signal 9"):
        loop.run()
    assert ahead.pids == []
    assert multiprocessing.active_children() == []


def test_the_number_is_a_setting_and_no_part_of_the_runs_key(lab: Any) -> None:
    params = lab.job().params
    plain, with_loaders = (
        make_job(params, Settings(ray=RaySettings(loaders_per_worker=number)), lab.prepared) for number in (0, 3)
    )
    assert (plain.loaders, with_loaders.loaders) == (0, 3)
    assert plain.key == with_loaders.key


@pytest.mark.parametrize(("collective_s", "hang_s", "patience_s"), [(300, 120, 60), (20, 120, 10), (300, 8, 4)])
def test_loaders_are_named_before_their_worker_is_given_up(
    lab: Any, collective_s: float, hang_s: float, patience_s: float
) -> None:
    """By the others, who wait for it in a collective, or by the driver."""
    ray = RaySettings(loaders_per_worker=1, collective_timeout_s=collective_s, hang_timeout_s=hang_s)
    job = make_job(lab.job().params, Settings(ray=ray), lab.prepared)
    assert lab.loop(job)._objective.minibatches.ahead._patience_s == patience_s


def start(how: str) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("loading.py")
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(script), how],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> dict[str, list[int]]:
    assert process.stdout is not None
    found: dict[str, list[int]] = json.loads(process.stdout.readline())
    return found


def test_loaders_end_when_their_worker_is_killed() -> None:
    """And so does the server that they were forked from."""
    with start("killed") as process:
        found = said(process)
        below = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        assert len(found["pids"]) == 3
        assert set(found["pids"]) < set(below)
        assert all(running(pid) for pid in below)
        process.kill()
        assert gone(below, 5)


@pytest.mark.parametrize(
    ("how", "words"), [("closed", []), ("error", ["Traceback (most recent call last):", "ValueError: on purpose"])]
)
def test_loaders_end_without_a_word(how: str, words: list[str]) -> None:
    """With warnings as errors, and also where nobody closes them."""
    with start(how) as process:
        found = said(process)
        assert process.stderr is not None
        assert [line for line in process.stderr.read().splitlines() if not line.startswith(" ")] == words
        assert process.wait(20) == bool(words)
    assert found["threads"] == [1]
    assert gone(found["pids"], 5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")  # its own, of its own parts
def test_a_worker_whose_loader_is_killed_is_replaced(lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    changes: dict[str, Any] = {"steps": 150, "every_steps": 20}
    lab.run(alone := lab.job("alone", **changes))
    job = replace(lab.job("killed", **changes), loaders=2)
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_loader, args=(job, killed), daemon=True)
    killer.start()
    events: list[Any] = []
    train(job, Settings(ray=RaySettings(workers=2, cpus_per_worker=0.5)), events.append)
    killer.join(1)
    starts = [event.step for event in events if isinstance(event, Started)]
    assert len(killed) == 1
    assert len(starts) == 2
    assert 20 <= starts[1] < 150
    assert lab.digest(job) == lab.digest(alone)
    assert gone(loader_processes(), 10)


def kill_a_loader(job: Job, killed: list[int]) -> None:
    """kill -9 of one loader of a worker of Ray's, after the run's first checkpoint."""
    while newest_checkpoint(job.run)[0] is None:
        time.sleep(0.02)
    killed.append(loader_processes()[0])
    os.kill(killed[0], signal.SIGKILL)


def loader_processes() -> list[int]:
    """The children of forkservers below this process."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            parent = process.parent()
            if parent and any("forkserver" in word for word in parent.cmdline()):
                found.append(process.pid)
        except psutil.NoSuchProcess:
            continue
    return found
