"""A disk that refuses while a stage tracks: the stage goes on, and what finds room later is in MLflow, once each."""

import errno
import os
from types import SimpleNamespace

import pytest

from pipelines.errors import TrackingError
from pipelines.tracking import run
from pipelines.tracking.delivery import Delivery
from pipelines.tracking.leftovers import send_leftovers
from pipelines.tracking.run import Tracker, stage_run
from pipelines.tracking.spool import Spool, spool_folder
from pipelines.tracking.store import connect
from tests import limits

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


def tracked(workplace):
    """Steps and losses that MLflow has of the training's only run."""
    store = connect(workplace.settings, workplace.params.register_.name)
    (training,) = store.client.search_runs([store.experiment_id], "tags.stage = 'train'")
    history = store.client.get_metric_history(training.info.run_id, "loss")
    return [(point.step, point.value) for point in history]


def test_half_a_line_is_taken_back(spool):
    spool.metric("loss", 1, 0.5)
    before = spool.path.read_bytes()
    with limits.file_size(len(before) + 20), pytest.raises(OSError, match="File too large"):
        spool.metric("loss", 2, 0.25)
    assert spool.path.read_bytes() == before
    spool.metric("loss", 2, 0.25)  # it was not kept, so it is no repetition
    assert [event.get("step") for event in spool.events()] == [None, 1, 2]


def test_half_a_file_is_not_kept(spool, tmp_path):
    (tmp_path / "note.txt").write_text("look at me")
    spool.artifact(tmp_path / "note.txt")
    (tmp_path / "note.txt").write_text("look at me again")
    with limits.file_size(12), pytest.raises(OSError, match="File too large"):
        spool.artifact(tmp_path / "note.txt")
    assert [(file.name, file.read_text()) for file in spool.files.iterdir()] == [("note.txt", "look at me")]


@pytest.mark.parametrize("room", [0, 20])
def test_what_was_refused_is_kept_when_there_is_room(spool, room):
    """Also the line that says which run it is, which comes first."""
    with limits.file_size(room):
        tracker = Tracker(spool)
        tracker.metrics(1, {"loss": 0.5})
        tracker.tags({"data.digest": "abc"})
    assert list(spool.events()) == []
    tracker.metrics(1, {"loss": 0.5})
    tracker.metrics(2, {"loss": 0.25})
    begun, *events = [{k: v for k, v in event.items() if k != "time"} for event in spool.events()]
    assert begun == {"run": spool.identity.__dict__}
    assert events == [
        {"metric": "loss", "step": 1, "value": 0.5},
        {"tags": {"data.digest": "abc"}},
        {"metric": "loss", "step": 2, "value": 0.25},
    ]
    assert tracker.end("FINISHED") is None


def test_a_full_disk_does_not_replace_the_stages_own_error(workplace, monkeypatch, capsys):
    def refuse(spool: Spool, status: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Spool, "end", refuse)
    monkeypatch.setattr(run, "Sender", lambda spool, settings: SimpleNamespace(problem=None, finish=lambda: None))
    with (
        pytest.raises(RuntimeError, match="on purpose"),
        stage_run("train", workplace.params, workplace.settings, key="k"),
    ):
        raise RuntimeError("on purpose")
    assert "not kept for MLflow: 1 numbers, facts or files (OSError: [Errno 28] No space" in capsys.readouterr().err
    assert list(spool_folder().glob("*.jsonl"))  # its end is still to be told


def test_a_damaged_line_is_left_out_and_told(workplace, spool, capsys):
    for step in (1, 2, 3):
        spool.metric("loss", step, 1 / step)
    begun, one, two, three = spool.path.read_bytes().splitlines(keepends=True)
    spool.path.write_bytes(begun + one + two[:10] + three)
    spool.close()
    list(send_leftovers(workplace.settings))
    assert tracked(workplace) == [(1, 1.0)]
    assert f"warning: damaged, so not in MLflow: 1 lines of {spool.path.name}" in capsys.readouterr().err

    with stage_run("train", workplace.params, workplace.settings, key="k") as tracker:  # the run tells all again
        for step in (1, 2, 3):
            tracker.metrics(step, {"loss": 1 / step})
    assert tracked(workplace) == [(1, 1.0), (2, 0.5), (3, 1 / 3)]


def test_a_full_database_costs_a_line(workplace, spool, capsys):
    spool.begin()
    Delivery(spool, workplace.settings).run()
    for step in range(1000):
        spool.metric("loss", step, 1.0)
    size = (workplace.folder / ".state/mlflow/mlflow.db").stat().st_size
    with limits.file_size(size), pytest.raises(TrackingError, match="store could not be used: disk I/O error"):
        Delivery(spool, workplace.settings).run()
    assert capsys.readouterr().err == ""
    Delivery(spool, workplace.settings).run()
    assert len(tracked(workplace)) == 1000


def test_a_line_that_is_being_written_is_left_for_later(spool):
    spool.metric("loss", 1, 0.5)
    with spool.path.open("a") as file:
        file.write('{"metric": "loss", "st')
    assert len(list(spool.events())) == 2
