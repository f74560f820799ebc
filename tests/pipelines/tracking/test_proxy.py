"""A real MLflow server behind a proxy that misbehaves: a stage goes on at full speed, and all of it arrives, once."""

from __future__ import annotations

import hashlib
import multiprocessing
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache

import psutil
import pytest

from pipelines.sync import send
from pipelines.tracking.run import stage_run
from pipelines.tracking.spool import Spool, spool_folder
from pipelines.tracking.store import connect, quiet_mlflow
from tests.pipelines.tracking.proxy import Mode, Proxy, mlflow_server
from tests.pipelines.tracking.stepper import FILE_EVERY, loss, settings_for, step_through

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(1500)]

STEPS, REPETITIONS = 1000, 2
STEP_S = 0.025
"""A step of the default job takes four times as long."""
_BLOCK = bytes(1 << 16)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with mlflow_server(tmp_path_factory.mktemp("server")) as port:
        yield port


@pytest.fixture
def proxy(server: int) -> Iterator[Proxy]:
    proxy = Proxy(server)
    yield proxy
    proxy.mode = Mode.HEALTHY  # lets go of what hangs
    proxy.close()


def some_work(blocks: int) -> float:
    """Seconds of one core, mostly outside of Python, as a step's are."""
    began = time.perf_counter()
    for _ in range(blocks):
        hashlib.sha256(_BLOCK).digest()
    return time.perf_counter() - began


@cache
def blocks_of_a_step() -> int:
    """As many as take STEP_S on this machine."""
    return round(STEP_S * 100 / statistics.median(some_work(100) for _ in range(21)))


def work() -> None:
    """A step's."""
    some_work(blocks_of_a_step())


def history_of(store, stage: str, key: str) -> tuple[str, dict[str, Counter]]:
    """The run's id, and how often the server holds each (step, value) by name. There is one run, below one parent."""
    (run,) = store.client.search_runs([store.experiment_id], f"tags.stage = '{stage}' and tags.`stage.key` = '{key}'")
    (parent,) = store.client.search_runs([store.experiment_id], "tags.stage = 'pipeline'")
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert run.data.params == parent.data.params != {}
    assert run.info.status == "FINISHED"
    run_id = run.info.run_id
    return run_id, {
        name: Counter((point.step, point.value) for point in store.client.get_metric_history(run_id, name))
        for name in run.data.metrics
    }


class Told:
    """What a tracked run of STEPS steps cost."""

    def __init__(self, workplace, url: str, key: str) -> None:
        calls: list[float] = []
        with stage_run("train", workplace.params, settings_for(url), key=key) as tracker:
            time.sleep(0.1)
            (sender,) = (each.native_id for each in threading.enumerate() if each.name == "mlflow-sender")
            self.walls: list[float] = []
            for step in range(STEPS):
                began = time.perf_counter()
                work()
                before = time.thread_time()
                tracker.metrics(step, {"loss": loss(step)})
                calls.append(time.thread_time() - before)
                self.walls.append(time.perf_counter() - began)
            self.inside_s = statistics.median(calls)
            used = {each.id: each.user_time + each.system_time for each in psutil.Process().threads()}
            self.sender_s = used[sender] / STEPS


def untracked() -> list[float]:
    walls = []
    for _ in range(STEPS):
        began = time.perf_counter()
        work()
        walls.append(time.perf_counter() - began)
    return walls


def test_a_stage_is_as_fast_whatever_the_server_does(workplace, proxy, capsys):
    """The median step's wall time with tracking and without, in turn; and the CPU time that tracking takes: of the
    stage's own thread (the median call) and of the sender's.

    A call takes 7 microseconds, and ten times that where a step has emptied the caches, as here. The sender needs some
    tenths of a second to begin with, then 50 microseconds for a number, also for those of earlier runs.
    """
    quiet_mlflow(settings_for(proxy.url))
    modes = [Mode.HEALTHY, Mode.SLOW, Mode.FAILS, Mode.FAILS_AFTER, Mode.CUTS_AFTER, Mode.HANGS, Mode.REFUSED]
    plain: list[float] = []
    told: dict[Mode, list[Told]] = {mode: [] for mode in modes}
    for repetition in range(REPETITIONS):
        for place, mode in enumerate(modes):
            if place % 3 == 0:
                plain += untracked()
            proxy.mode, proxy.reading_works = mode, mode in (Mode.FAILS_AFTER, Mode.CUTS_AFTER)
            told[mode].append(Told(workplace, proxy.url, f"{mode.name}-{repetition}"))
    base = statistics.median(plain)
    with capsys.disabled():
        print(f"\n{STEPS} steps of {1000 * base:.1f} ms")
        for mode, runs in told.items():
            wall = statistics.median(wall for run in runs for wall in run.walls) / base
            inside, sender = (
                statistics.median(getattr(run, name) for run in runs) / base for name in ("inside_s", "sender_s")
            )
            print(f"{mode.name:12} wall {wall - 1:+.2%}  in the tracker {inside:.2%}  the sender's CPU {sender:.2%}")
    for runs in told.values():
        assert statistics.median(run.inside_s for run in runs) < 0.01 * base
        assert statistics.median(run.sender_s for run in runs) < 1 / STEPS

    proxy.mode = Mode.HEALTHY
    assert send(settings_for(proxy.url, timeout_s=10), others=False)
    store = connect(settings_for(proxy.url, timeout_s=10), workplace.params.register_.name)
    wanted = {"loss": Counter((step, loss(step)) for step in range(STEPS))}
    for mode in modes:
        for repetition in range(REPETITIONS):
            assert history_of(store, "train", f"{mode.name}-{repetition}")[1] == wanted
    assert list(Spool.leftovers()) == []


def test_killed_thirty_times_each_point_arrives_once(workplace, proxy):
    seed = 7
    draw = random.Random(seed)
    steps = 2000
    forked = multiprocessing.get_context("forkserver")
    forked.set_forkserver_preload(["mlflow", "tests.pipelines.tracking.stepper"])
    over = threading.Event()

    def switch() -> None:
        moods = random.Random(seed + 1)
        while not over.wait(moods.uniform(0.05, 0.6)):
            proxy.mode, proxy.reading_works = moods.choice(list(Mode)), moods.random() < 0.5

    def start() -> multiprocessing.process.BaseProcess:
        process = forked.Process(target=step_through, args=(str(workplace.folder), proxy.url, steps))
        process.start()
        return process

    switching = threading.Thread(target=switch)
    switching.start()
    killed = 0
    while killed < 30:
        process = start()
        process.join(draw.uniform(0.2, 2.5))
        if process.is_alive():
            process.kill()
            killed += 1
        process.join()
        if (workplace.folder / "ended").exists():  # then all of it is told again
            (workplace.folder / "ended").unlink()
            (workplace.folder / "reached").unlink()
    over.set()
    switching.join()
    proxy.mode = Mode.HEALTHY
    process = start()
    process.join()
    assert process.exitcode == 0
    assert send(settings_for(proxy.url, timeout_s=10), others=False)

    store = connect(settings_for(proxy.url, timeout_s=10), workplace.params.register_.name)
    run_id, history = history_of(store, "train", "stepping")
    assert history == {
        "loss": Counter((step, loss(step)) for step in range(steps)),
        "gradient_norm": Counter((step, 2 * loss(step)) for step in range(steps)),
    }
    assert store.client.get_run(run_id).data.tags["reached"] == str(steps)
    notes = {f"note-{step}.txt" for step in range(FILE_EVERY - 1, steps, FILE_EVERY)}
    assert {file.path for file in store.client.list_artifacts(run_id)} == notes
    assert list(spool_folder().glob("*.jsonl")) == []
