"""A real MLflow server behind a proxy that misbehaves: a stage goes on at full speed, and all of it arrives, once."""

from __future__ import annotations

import multiprocessing
import random
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from pipelines.sync import send
from pipelines.tracking.spool import Spool, spool_folder
from pipelines.tracking.store import connect
from tests.pipelines.tracking.in_turn import WORKERS, pieces_of, step_in_turn
from tests.pipelines.tracking.proxy import Mode, Proxy, mlflow_server
from tests.pipelines.tracking.stepper import FILE_EVERY, loss, settings_for, step_through

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(1500)]

STEPS, TURNS = 1000, 50
STEP_S = 0.06
"""As a core alone would take; a step of the default job takes 0.06 to 0.12."""


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


def test_a_stage_is_as_fast_whatever_the_server_does(workplace, proxy, capsys):
    """The wall time of tracked steps beside that of the same steps without tracking, where training takes all cores."""
    modes = [Mode.HEALTHY, Mode.SLOW, Mode.FAILS, Mode.FAILS_AFTER, Mode.CUTS_AFTER, Mode.HANGS, Mode.REFUSED]
    pieces = pieces_of(STEP_S)
    costs = {}
    with capsys.disabled():
        print(f"\n{STEPS} steps on {WORKERS} cores")
        for mode in modes:
            proxy.mode, proxy.reading_works = mode, mode in (Mode.FAILS_AFTER, Mode.CUTS_AFTER)
            cost = step_in_turn(workplace.folder, proxy.url, mode.name, steps=STEPS, turns=TURNS, pieces=pieces)
            costs[mode] = cost
            print(
                f"{mode.name:12} {cost.wall - 1:+.2%} ± {cost.uncertainty:.2%} of {sum(cost.untracked):.0f} s"
                f"; CPU: the calls {1e6 * cost.calls:.0f} us each, the sender {cost.sender:.2f} s"
            )
    for cost in costs.values():
        assert cost.wall - 1 < 0.01 + cost.uncertainty

    proxy.mode = Mode.HEALTHY
    assert send(settings_for(proxy.url, timeout_s=10), others=False)
    store = connect(settings_for(proxy.url, timeout_s=10), workplace.params.register_.name)
    wanted = {"loss": Counter((step, loss(step)) for step in range(STEPS))}
    for mode in modes:
        assert history_of(store, "train", mode.name)[1] == wanted
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
