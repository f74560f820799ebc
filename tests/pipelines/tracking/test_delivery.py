"""Sending one spool: what happens to a batch whose answer is lost, to what is refused, to runs made twice or deleted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from pipelines.errors import TrackingError
from pipelines.tracking import delivery, family
from pipelines.tracking.delivery import Delivery, PartlySent
from pipelines.tracking.leftovers import send_leftovers
from pipelines.tracking.run import identity as run_identity
from pipelines.tracking.spool import Busy, Spool
from pipelines.tracking.store import Patient, Store, connect

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


class Client:
    """MLflow's client, of a store that keeps equal points twice, with calls that a test disturbs."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.points: list[tuple[str, int, float]] = []
        self.disturbances: dict[str, Callable[..., None]] = {}
        """By the method's name: called after it; what it raises is raised, though the method has done its work."""
        self.refusals: dict[str, Callable[..., None]] = {}
        """Called before it."""
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **named: Any) -> Any:
            self.calls[name] += 1
            self.refusals.get(name, _nothing)(*args, **named)
            if name == "log_batch":
                self.points += [(m.key, m.step, m.value) for m in (args[1:] or [named.get("metrics") or ()])[0]]
            answer = method(*args, **named)
            self.disturbances.pop(name, _nothing)(*args, **named)
            return answer

        return call


def _nothing(*args: Any, **named: Any) -> None: ...


def lost(*args: Any, **named: Any) -> None:
    """As MLflow tells of a request that was not answered."""
    raise MlflowException("API request to http://there/log-batch failed with exception timed out")


def refusal(reason: str) -> MlflowException:
    return MlflowException(reason, error_code=INVALID_PARAMETER_VALUE)


@pytest.fixture
def client(workplace, monkeypatch) -> Client:
    """In the place of the real one of the embedded store."""
    store = connect(workplace.settings, workplace.params.register_.name)
    client = Client(store.client)
    monkeypatch.setattr(delivery, "connect", lambda *_: Store(client, store.uri, store.experiment_id))
    return client


@pytest.fixture
def spool(workplace) -> Iterator[Spool]:
    spool = Spool.open(run_identity("train", workplace.params, "k"))
    yield spool
    spool.close()


def runs(workplace, stage: str) -> list[Any]:
    store = connect(workplace.settings, workplace.params.register_.name)
    return list(store.client.search_runs([store.experiment_id], f"tags.stage = '{stage}'"))


def tell(spool: Spool, *steps: int) -> None:
    for step in steps:
        spool.metric("loss", step, float(step))


def test_a_batch_whose_answer_was_lost_is_not_sent_again(workplace, spool, client):
    """Also by the process that has sent it, which knew what there was before."""
    sending = Delivery(spool, workplace.settings)
    tell(spool, 1)
    sending.run()
    tell(spool, 2, 3)
    client.disturbances["log_batch"] = lost
    with pytest.raises(TrackingError, match="did not answer"):
        sending.run()
    tell(spool, 4)
    sending.run()
    assert client.points == [("loss", step, float(step)) for step in (1, 2, 3, 4)]


def test_nothing_new_asks_nothing(workplace, spool, client):
    sending = Delivery(spool, workplace.settings)
    tell(spool, 1)
    sending.run()
    before = client.calls.total()
    sending.run()
    assert client.calls.total() == before
    tell(spool, 2)
    sending.run()
    assert client.calls.total() == before + 1


@pytest.mark.parametrize("call", ["create_run", "set_terminated", "log_artifact", "update_run", "set_tag"])
def test_any_answer_may_be_lost(workplace, spool, client, call, tmp_path):
    (tmp_path / "note.txt").write_text("look at me")
    sending = Delivery(spool, workplace.settings)
    tell(spool, 1)
    spool.artifact(tmp_path / "note.txt")
    spool.tags({"a": "b"})
    client.disturbances[call] = lost
    for ends in (False, True):
        if ends:
            spool.end("FINISHED")
        for _ in range(3):
            try:
                sending.run()
            except TrackingError:
                continue
            break
    (parent,), (run,) = runs(workplace, "pipeline"), runs(workplace, "train")
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (run.info.status, parent.info.status, run.data.tags["a"]) == ("FINISHED", "FINISHED", "b")
    assert run.data.params == parent.data.params != {}
    assert client.points == [("loss", 1, 1.0)]
    assert not spool.unsent(Delivery(spool, workplace.settings)._uri)


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


def test_one_event_that_is_refused_holds_nothing_up(workplace, spool):
    tell(spool, *range(20))
    spool.metric("a name; that MLflow\x00 will not have", 1, 1.0)
    tell(spool, *range(20, 40))
    spool.tags({"fact": "true"})
    spool.end("FINISHED")
    sending = Delivery(spool, workplace.settings)
    with pytest.raises(PartlySent, match="Invalid value"):
        sending.run()
    (run,) = runs(workplace, "train")
    store = connect(workplace.settings, workplace.params.register_.name)
    history = store.client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(step, float(step)) for step in range(40)]
    assert (run.data.tags["fact"], run.info.status) == ("true", "FINISHED")
    assert spool.unsent(sending._uri) == {"numbers": 1}


def test_a_file_that_is_refused_holds_nothing_up(workplace, spool, client, tmp_path):
    for name in ("bad.txt", "good.txt"):
        (tmp_path / name).write_text(name)
        spool.artifact(tmp_path / name)
    tell(spool, 1)
    spool.end("FINISHED")

    def read_only(run_id: str, path: str) -> None:
        if Path(path).name == "bad.txt":
            raise OSError(30, "Read-only file system")

    client.refusals["log_artifact"] = read_only
    sending = Delivery(spool, workplace.settings)
    with pytest.raises(PartlySent, match=r"bad\.txt: .*Read-only file system"):
        sending.run()
    (run,) = runs(workplace, "train")
    assert (run.data.metrics, run.info.status) == ({"loss": 1.0}, "FINISHED")
    assert spool.unsent(sending._uri) == {"files": 1}
    client.refusals.clear()
    sending.run()
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"bad.txt", "good.txt"}
    assert runs(workplace, "train")[0].info.status == "FINISHED"


def test_a_fact_that_was_refused_does_not_replace_a_newer_one(workplace, spool, client):
    def refuse(run_id: str, *args: Any, tags: Any = (), **named: Any) -> None:
        if any(tag.value == "old" for tag in tags):
            raise refusal("no")

    client.refusals["log_batch"] = refuse
    sending = Delivery(spool, workplace.settings)
    spool.tags({"fact": "old", "other": "1"})
    tell(spool, 1)
    with pytest.raises(PartlySent):
        sending.run()
    spool.tags({"fact": "new"})
    with pytest.raises(PartlySent):
        sending.run(again=False)
    client.refusals.clear()
    sending.run()
    (run,) = runs(workplace, "train")
    assert (run.data.tags["fact"], run.data.tags["other"]) == ("new", "1")


def test_a_server_that_refuses_everything_is_not_asked_for_each_event(workplace, spool, client):
    tell(spool, *range(900))
    client.refusals["log_batch"] = lambda *_, metrics=(), params=(), tags=(): params or _refuse_all()
    with pytest.raises(TrackingError) as raised:
        Delivery(spool, workplace.settings).run()
    assert not isinstance(raised.value, PartlySent)
    assert client.calls["log_batch"] < 40
    assert spool.unsent(Delivery(spool, workplace.settings)._uri) == {"numbers": 900}


def _refuse_all() -> None:
    raise refusal("all of it")


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
    for _ in range(2):
        try:
            sending.run()
        except TrackingError as error:
            assert "deleted" in str(error)
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


def test_a_stage_does_not_wait_for_who_sends_what_it_left(workplace, spool, monkeypatch):
    """A second process sends it to a slow server, meanwhile the stage goes on in the same run."""
    tell(spool, 1)
    spool.end("FINISHED")
    spool.close()
    tried: list[Spool] = []
    run = Delivery.run

    def slow(self: Delivery, *, again: bool = True) -> None:
        if not tried:
            tried.append(Spool.open(run_identity("train", workplace.params, "k")))  # does not wait
            tell(tried[0], 1, 2)
            with self._spool.sending(), pytest.raises(Busy):
                run(Delivery(tried[0], workplace.settings))
        run(self, again=again)

    monkeypatch.setattr(Delivery, "run", slow)
    assert [sent.problem for sent in send_leftovers(workplace.settings)] == [None]
    assert tried[0].path.exists()  # who appends to it will remove it
    tell(tried[0], 3)
    Delivery(tried[0], workplace.settings).run()
    tried[0].close()
    (found,) = runs(workplace, "train")
    assert found.info.status == "RUNNING"
    store = connect(workplace.settings, workplace.params.register_.name)
    assert [point.step for point in store.client.get_metric_history(found.info.run_id, "loss")] == [1, 2, 3]


def test_reading_is_repeated_and_making_is_not(monkeypatch):
    class Flaky:
        calls: Counter[str] = Counter()

        def __getattr__(self, name: str) -> Any:
            def call() -> str:
                self.calls[name] += 1
                if self.calls[name] < 3:
                    lost()
                return "answer"

            return call

    monkeypatch.setattr("time.sleep", lambda seconds: None)
    patient = Patient(Flaky(), retries=2)
    assert patient.search_runs() == "answer"
    with pytest.raises(MlflowException):
        patient.create_run()
    assert Flaky.calls == {"search_runs": 3, "create_run": 1}
