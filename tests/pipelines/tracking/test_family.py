"""The runs in MLflow: one of each, also where two make it at once, an answer is lost, or a person deletes it."""

import json
from contextlib import nullcontext
from typing import Any

import pytest

from pipelines.data.manifest import read_manifest
from pipelines.errors import TrackingError
from pipelines.tracking import family
from pipelines.tracking.delivery import Delivery
from pipelines.tracking.run import identity as run_identity
from pipelines.tracking.store import connect
from tests.pipelines.stage_inputs import prepared_digits
from tests.pipelines.tracking.embedded import runs, tell

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


def test_two_who_make_the_same_run_at_once_choose_one(workplace, spool, monkeypatch):
    """The second looks and makes its own while the first has looked already, as on another machine."""
    store = connect(workplace.settings, workplace.params.register_.name)
    identity = run_identity("train", workplace.params, "k")
    make, found = family._Wanted._make, []

    def late(self: Any, began_ms: int | None) -> Any:
        if not found:
            found.append(None)
            monkeypatch.setattr(family, "exclusive", nullcontext)  # another machine has its own lock
            found[0] = family.find_or_make_run(store, identity)
        return make(self, began_ms)

    monkeypatch.setattr(family._Wanted, "_make", late)
    assert family.find_or_make_run(store, identity) == found[0]
    assert [len(runs(workplace, stage)) for stage in ("pipeline", "train")] == [1, 1]


def test_a_run_that_was_made_after_its_answer_was_given_up_is_cleared_away(workplace, spool):
    tell(spool, 1)
    sending = Delivery(spool, workplace.settings)
    sending.run()
    store = connect(workplace.settings, workplace.params.register_.name)
    (run,) = runs(workplace, "train")
    tags = {name: run.data.tags[name] for name in ("stage", "stage.key", "pipeline.key")}
    store.client.create_run(store.experiment_id, start_time=1, tags=tags)
    spool.end("FINISHED")
    sending.run()
    (left,) = runs(workplace, "train")
    assert (left.info.run_id, left.data.metrics) == (run.info.run_id, {"loss": 1.0})


@pytest.mark.parametrize("what", ["run", "parent", "experiment"])
def test_what_was_deleted_meanwhile_is_restored_and_complete(workplace, spool, what, capsys):
    sending = Delivery(spool, workplace.settings)
    tell(spool, 1)
    sending.run()
    store = connect(workplace.settings, workplace.params.register_.name)
    (run,), (parent,) = runs(workplace, "train"), runs(workplace, "pipeline")
    if what == "experiment":
        store.client.delete_experiment(store.experiment_id)
    else:
        store.client.delete_run((run if what == "run" else parent).info.run_id)
    tell(spool, 2)
    spool.end("FINISHED")
    if what != "parent":
        with pytest.raises(TrackingError, match="its run was just deleted on the server"):
            sending.run()
    sending.run()
    assert [each.info.run_id for each in runs(workplace, "pipeline")] == [parent.info.run_id]
    (now,) = runs(workplace, "train")
    assert (now.info.run_id, now.info.status) == (run.info.run_id, "FINISHED")
    history = store.client.get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in history] == [1, 2]
    assert ("it is restored and used" in capsys.readouterr().err) == (what != "experiment")


def test_a_run_that_is_gone_for_good_is_made_anew_with_all_that_the_spool_has(workplace, spool):
    sending = Delivery(spool, workplace.settings)
    tell(spool, 1)
    sending.run()
    (run,) = runs(workplace, "train")
    store = connect(workplace.settings, workplace.params.register_.name)
    store.client._client._tracking_client.store._hard_delete_run(run.info.run_id)  # as `mlflow gc` does
    tell(spool, 2)
    with pytest.raises(TrackingError):
        sending.run()
    sending.run()
    (anew,) = runs(workplace, "train")
    assert [point.step for point in store.client.get_metric_history(anew.info.run_id, "loss")] == [1, 2]


def test_the_images_that_a_stage_reads_are_its_input_once(workplace, monkeypatch):
    prepared = prepared_digits(workplace.folder / "results/prepare")
    store = connect(workplace.settings, workplace.params.register_.name)
    for stage in ("train", "sample", "train"):
        family.find_or_make_run(store, run_identity(stage, workplace.params, "k"))
    (trained,), (sampled,) = runs(workplace, "train"), runs(workplace, "sample")
    assert sampled.inputs.dataset_inputs == []
    (of_training,) = trained.inputs.dataset_inputs
    assert (of_training.dataset.name, of_training.tags[0].value) == ("digits", "training")
    assert of_training.dataset.digest == read_manifest(prepared).digest[:36]
    assert json.loads(of_training.dataset.profile)["test"] == 365
    (parent,) = runs(workplace, "pipeline")
    assert parent.inputs.dataset_inputs == []
