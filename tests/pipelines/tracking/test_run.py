"""A stage's run: what reaches MLflow, once each, and what happens when MLflow is away."""

import json
import socket
import threading
import time
from dataclasses import replace
from hashlib import sha256

import pytest

from pipelines.errors import Interrupted
from pipelines.project import workspace
from pipelines.settings import Settings, TrackingSettings
from pipelines.tracking import leftovers, sender
from pipelines.tracking.delivery import Delivery
from pipelines.tracking.environment import environment_text
from pipelines.tracking.leftovers import send_leftovers
from pipelines.tracking.lineage import params_flat
from pipelines.tracking.lines import decode
from pipelines.tracking.run import Tracker, stage_run
from pipelines.tracking.run import identity as run_identity
from pipelines.tracking.spool import Spool, spool_folder
from pipelines.tracking.store import connect
from tests.pipelines.repository import git

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


def client(workplace):
    return connect(workplace.settings, workplace.params.register_.name)


def runs(workplace, stage):
    store = client(workplace)
    return store.client.search_runs([store.experiment_id], f"tags.stage = '{stage}'")


def dead_server() -> Settings:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return Settings(tracking=TrackingSettings(uri=f"http://user:secret@127.0.0.1:{port}", timeout_s=1, retries=0))


def test_a_stage_is_a_child_of_one_parent_per_pipeline(workplace, tmp_path):
    (tmp_path / "note.txt").write_text("look at me")
    for stage in ("prepare", "train"):
        with stage_run(stage, workplace.params, workplace.settings, key=f"{stage}-key") as tracker:
            tracker.metrics(3, {"loss": 0.25})
            tracker.tags({"data.digest": "abc"})
            tracker.artifact(tmp_path / "note.txt")
    came_from = {
        "git.commit": git(workspace(), "rev-parse", "HEAD"),
        "git.dirty": str(bool(git(workspace(), "status", "--porcelain", "--", ":!dvc.lock"))).lower(),
        "environment.digest": sha256(environment_text().encode()).hexdigest(),
    }
    (parent,) = runs(workplace, "pipeline")
    for stage in ("prepare", "train"):
        (child,) = runs(workplace, stage)
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert came_from.items() <= child.data.tags.items()
        assert child.data.metrics == {"loss": 0.25}
        assert child.data.tags["data.digest"] == "abc"
        assert child.data.params["train.steps"] == str(workplace.params.train.steps)
        assert child.info.status == "FINISHED"
        assert [file.path for file in client(workplace).client.list_artifacts(child.info.run_id)] == ["note.txt"]
    assert not list(spool_folder().glob("*.jsonl"))  # all sent


def test_a_replayed_step_is_logged_once(workplace):
    for attempt in range(2):
        with stage_run("train", workplace.params, workplace.settings, key="k") as tracker:
            for step in range(4 + attempt):
                tracker.metrics(step, {"loss": 1.0 / (step + 1)})
                tracker.metrics(step, {"loss": 1.0 / (step + 1)})
    (run,) = runs(workplace, "train")
    history = client(workplace).client.get_metric_history(run.info.run_id, "loss")
    assert sorted((point.step, point.value) for point in history) == [(k, 1.0 / (k + 1)) for k in range(5)]


def test_a_failed_stage_is_marked_as_failed(workplace):
    with (
        pytest.raises(RuntimeError, match="on purpose"),
        stage_run("sample", workplace.params, workplace.settings, key="k"),
    ):
        raise RuntimeError("on purpose")
    (run,) = runs(workplace, "sample")
    assert run.info.status == "FAILED"


@pytest.mark.parametrize("stopped", [KeyboardInterrupt, Interrupted])
def test_a_stage_that_was_stopped_is_marked_as_killed(workplace, stopped):
    with pytest.raises(stopped), stage_run("train", workplace.params, workplace.settings, key="k"):
        raise stopped
    (run,) = runs(workplace, "train")
    assert run.info.status == "KILLED"


def test_a_file_that_is_not_there_holds_up_no_numbers(workplace, capsys):
    with stage_run("train", workplace.params, dead_server(), key="k") as tracker:
        tracker.artifact(workplace.folder / "gone.png")
        tracker.metrics(1, {"loss": 0.5})
        (path,) = spool_folder().glob("*.jsonl")
        assert decode(path.read_bytes().splitlines()[-1])["metric"] == "loss"
    assert "warning: not there, so not in MLflow: " in capsys.readouterr().err


def test_a_server_that_hangs_holds_a_stage_up_for_one_time_out(workplace, capsys, monkeypatch):
    attempts = []
    deliver = Delivery.run
    monkeypatch.setattr(Delivery, "run", lambda self, **how: attempts.append(how) or deliver(self, **how))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = Settings.model_validate({"tracking": {"uri": uri, "timeout_s": 1, "retries": 2}})
        began = time.monotonic()
        with stage_run("train", workplace.params, settings, key="k") as tracker:
            tracker.metrics(1, {"loss": 0.5})
            (thread,) = (each for each in threading.enumerate() if each.name == "mlflow-sender")
        assert time.monotonic() - began < 5
        thread.join()
    assert len(attempts) == 1  # then it leaves MLflow to whoever goes on in this process
    assert "not yet in MLflow: 1 fact, 1 number (MLflow does not answer)" in capsys.readouterr().err


def test_numbers_that_are_not_finite_become_tags(workplace):
    with stage_run("train", workplace.params, workplace.settings, key="k") as tracker:
        tracker.metrics(7, {"loss": float("inf"), "fine": 1.0})
    (run,) = runs(workplace, "train")
    assert run.data.metrics == {"fine": 1.0}
    assert run.data.tags["not_finite.loss"] == "inf at step 7"
    with stage_run("train", workplace.params, workplace.settings, key="k") as tracker:
        for step in (8, 9, 9):
            tracker.metrics(step, {"loss": float("nan"), "fine": 1.0})
    (run,) = runs(workplace, "train")
    assert run.data.tags["not_finite.loss"] == "nan at step 8, and 1 more, the last nan at step 9"


def test_a_dead_server_costs_a_line_and_loses_nothing(workplace, capsys, monkeypatch):
    began = time.monotonic()
    with stage_run("train", workplace.params, dead_server(), key="k") as tracker:
        tracker.metrics(1, {"loss": 0.5})
    assert time.monotonic() - began < 30
    said = capsys.readouterr().err
    assert "not yet in MLflow" in said
    assert "secret" not in said
    monkeypatch.setattr(sender, "_EVERY_S", 0.01)
    with stage_run("sample", workplace.params, workplace.settings, key="other"):
        (left,) = spool_folder().glob("train-*.jsonl")
        while left.exists():  # it is sent while the stage works
            assert time.monotonic() - began < 60
            time.sleep(0.01)
    (run,) = runs(workplace, "train")
    assert run.data.metrics == {"loss": 0.5}
    assert not list(spool_folder().glob("*.jsonl"))


@pytest.mark.parametrize("working", [False, True])
def test_a_stage_does_not_wait_for_what_others_left(workplace, capsys, monkeypatch, working):
    """The server is slow with the others' numbers; it has them while the stage works, or before it came to them."""
    other = Spool.open(run_identity("sample", workplace.params, "other"))
    other.metric("loss", 1, 0.5)
    other.close()
    reached, goes_on = threading.Event(), threading.Event()

    class Slow(Delivery):
        def run(self, *, again: bool = True) -> None:
            reached.set()
            goes_on.wait(60)
            super().run(again=again)

    monkeypatch.setattr(leftovers, "Delivery", Slow)
    monkeypatch.setattr(sender, "_EVERY_S", 0.01 if working else 60)
    with stage_run("train", workplace.params, workplace.settings, key="k") as tracker:
        tracker.metrics(1, {"loss": 0.25})
        assert not working or reached.wait(60)
    assert capsys.readouterr().err == ""
    assert [path.name for path in spool_folder().glob("*.jsonl")] == [other.path.name]
    assert reached.is_set() == working
    (run,) = runs(workplace, "train")
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"loss": 0.25})
    goes_on.set()
    for thread in [each for each in threading.enumerate() if each.name == "mlflow-leftovers"]:
        thread.join(60)


def test_what_a_killed_stage_left_is_sent_without_its_torn_line(workplace):
    with stage_run("train", workplace.params, dead_server(), key="k") as tracker:
        tracker.metrics(1, {"loss": 0.5})
    (path,) = spool_folder().glob("*.jsonl")
    with path.open("a") as file:
        file.write('{"metric": "loss", "st')
    list(send_leftovers(workplace.settings))
    (run,) = runs(workplace, "train")
    assert run.data.metrics == {"loss": 0.5}


def test_a_killed_stage_is_marked_as_killed_and_may_go_on(workplace):
    with stage_run("train", workplace.params, dead_server(), key="k") as tracker:
        tracker.metrics(1, {"loss": 0.5})
    (path,) = spool_folder().glob("*.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    assert decode(lines[-1].encode())["end"] == "FINISHED"
    path.write_text("".join(lines[:-1]))  # as kill -9 leaves it
    list(send_leftovers(workplace.settings))
    (run,) = runs(workplace, "train")
    assert (run.info.status, run.data.metrics) == ("KILLED", {"loss": 0.5})
    assert not path.exists()

    with stage_run("train", workplace.params, workplace.settings, key="k") as tracker:
        tracker.metrics(1, {"loss": 0.5})
        tracker.metrics(2, {"loss": 0.25})
    (run,) = runs(workplace, "train")
    assert run.info.status == "FINISHED"
    history = client(workplace).client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.25)]


def test_another_server_gets_all_of_it(workplace, tmp_path):
    """Half of a run was sent to one server; the settings now name another."""
    identity = run_identity("train", workplace.params, "k")
    spool = Spool.open(identity)
    spool.metric("loss", 1, 0.5)
    Delivery(spool, workplace.settings).run()
    spool.metric("loss", 2, 0.25)
    spool.close()
    elsewhere = Settings(tracking=TrackingSettings(uri=f"sqlite:///{tmp_path}/user-secret.db"))
    spool = Spool.open(identity)
    Delivery(spool, elsewhere).run()
    store = connect(elsewhere, workplace.params.register_.name)
    (run,) = store.client.search_runs([store.experiment_id], "tags.stage = 'train'")
    assert [point.step for point in store.client.get_metric_history(run.info.run_id, "loss")] == [1, 2]
    assert "secret" not in spool.path.with_suffix(".sent").read_text()
    spool.close()


def test_telling_takes_microseconds(workplace):
    """Nothing waits for the disk or for MLflow; 7 microseconds where nothing else runs."""
    spool = Spool.open(run_identity("train", workplace.params, "k"))
    tracker = Tracker(spool)
    began = time.thread_time()
    for step in range(2000):
        tracker.metrics(step, {"loss": 0.5})
    assert (time.thread_time() - began) / 2000 < 100e-6
    assert sum("metric" in event for event in spool.events()) == 2000
    spool.close()


def test_a_spool_belongs_to_one_process_at_a_time(workplace):
    with stage_run("train", workplace.params, dead_server(), key="k") as tracker:
        tracker.metrics(1, {"loss": 0.5})
        assert list(Spool.leftovers()) == []  # it is held


def test_parameters_are_flat_under_stable_names(workplace):
    flat = params_flat(workplace.params)
    assert flat["register.name"] == "ddpm-digits"
    assert flat["train.microbatch"] == "null"
    assert flat["process.schedule"] == "log_snr"
    assert json.dumps(flat) == json.dumps(params_flat(workplace.params))


def test_a_mark_that_was_ahead_of_its_spool_does_not_count_when_that_has_grown(workplace, spool):
    """The power failed: the mark had reached the disk, and what it counts had not."""
    spool.metric("loss", 0, 0.5)
    size = spool.path.stat().st_size
    spool.set_mark(replace(spool.mark("http://here"), offset=size + 10))
    spool.close()
    again = Spool.open(run_identity("train", workplace.params, "k"))
    again.metric("loss", 1, 0.5)
    assert again.path.stat().st_size > size + 10
    assert again.mark("http://here").offset == 0
    again.close()
