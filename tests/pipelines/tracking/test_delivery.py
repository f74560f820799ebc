"""Sending one spool: what happens to a batch whose answer is lost, and to what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from pipelines.errors import TrackingError
from pipelines.tracking import delivery
from pipelines.tracking.delivery import Delivery, PartlySent
from pipelines.tracking.leftovers import send_leftovers
from pipelines.tracking.run import identity as run_identity
from pipelines.tracking.spool import Busy, Spool
from pipelines.tracking.store import Patient, Store, connect
from tests.pipelines.tracking.embedded import runs, tell

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


@pytest.mark.parametrize("code", ["INVALID_PARAMETER_VALUE", "INTERNAL_ERROR"])
def test_many_that_are_refused_for_good_hold_nothing_up(workplace, spool, client, tmp_path, code):
    """MLflow says that they are not valid, also where they are the first; or it only fails where it is given them."""

    def refuse(run_id: str, metrics: Any = (), **named: Any) -> None:
        if any(metric.key.startswith("bad") for metric in metrics):
            raise RestException({"error_code": code, "message": "no"})

    client.refusals["log_batch"] = refuse
    if code == "INTERNAL_ERROR":
        tell(spool, 1)
    for k in range(2 * delivery._HOPELESS):
        spool.metric(f"bad {k}", 1, 1.0)
    with pytest.raises(PartlySent, match="no"):
        Delivery(spool, workplace.settings).run()
    tell(spool, 2)
    (tmp_path / "note.txt").write_text("look at me")
    spool.artifact(tmp_path / "note.txt")
    spool.end("FINISHED")
    for _ in range(2):  # also where nothing is new
        with pytest.raises(PartlySent, match="no"):
            Delivery(spool, workplace.settings).run()
    (run,) = runs(workplace, "train")
    assert (run.data.metrics, run.info.status) == ({"loss": 2.0}, "FINISHED")
    assert spool.unsent(Delivery(spool, workplace.settings)._uri) == {"numbers": 2 * delivery._HOPELESS}


def test_a_server_that_refuses_everything_is_not_asked_for_each_event(workplace, spool, client):
    tell(spool, *range(900))
    client.refusals["log_batch"] = lambda *_, metrics=(), params=(), tags=(): params or _refuse_all()
    for _ in range(2):
        with pytest.raises(TrackingError) as raised:
            Delivery(spool, workplace.settings).run()
        assert not isinstance(raised.value, PartlySent)
    assert client.calls["log_batch"] < 80
    assert spool.unsent(Delivery(spool, workplace.settings)._uri) == {"numbers": 900}


def _refuse_all() -> None:
    raise RestException({"error_code": "INTERNAL_ERROR", "message": "disk full"})


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
    calls: Counter[str] = Counter()

    class Flaky:
        def __getattr__(self, name: str) -> Any:
            def call() -> str:
                calls[name] += 1
                if calls[name] < 3:
                    lost()
                return "answer"

            return call

    monkeypatch.setattr("time.sleep", lambda seconds: None)
    patient = Patient(Flaky(), retries=2)
    assert patient.search_runs() == "answer"
    with pytest.raises(MlflowException):
        patient.create_run()
    assert calls == {"search_runs": 3, "create_run": 1}
