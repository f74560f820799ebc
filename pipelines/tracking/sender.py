"""Sending spools to MLflow, in batches and in order, from a thread that a stage never waits for."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from pipelines.errors import TrackingError
from pipelines.settings import Settings, tracking_uri
from pipelines.tracking.spool import Event, RunIdentity, Spool
from pipelines.tracking.store import Store, connect, redact, tracking_errors

_BATCH = 1000
_EVERY_S = 3.0


class Sender:
    """A thread that sends a spool while it grows, after those that earlier processes left."""

    def __init__(self, spool: Spool, settings: Settings) -> None:
        self.problem: str | None = "MLflow was not reached"
        """Why not everything is sent, if it is not."""
        self._spool = spool
        self._settings = settings
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mlflow-sender", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Send what is left and stop. Bounded: one attempt at a server that is away, with its time-outs."""
        self._over.set()
        tracking = self._settings.tracking
        self._thread.join(timeout=60 + 2 * tracking.timeout_s * (tracking.retries + 1))
        if self._thread.is_alive():
            self.problem = "MLflow is too slow"

    def _work(self) -> None:
        leftovers_sent = False
        while True:
            last = self._over.wait(_EVERY_S)
            try:
                send(self._spool, self._settings)
                if not leftovers_sent:
                    send_leftovers(self._settings)
                    leftovers_sent = True
                self.problem = None
            except TrackingError as error:
                self.problem = str(error)
            except Exception as error:  # the thread must not die in silence: what it did not send is kept
                self.problem = f"{type(error).__name__}: {redact(str(error))}"
            if last:
                return


def send_leftovers(settings: Settings) -> None:
    """Send what earlier processes could not. A run that nobody ended was killed; its stage may go on in it later."""
    for spool in Spool.leftovers():
        if not spool.ended:
            spool.end("KILLED")
        send(spool, settings)
        spool.remove()


def send(spool: Spool, settings: Settings) -> None:
    """Send the events of a spool that MLflow does not have yet.

    Raises:
        TrackingError: MLflow did not take them; what it took is marked.
    """
    uri = tracking_uri(settings)
    start = spool.sent(uri)
    events = list(spool.events(start))
    if not events:
        return
    store = connect(settings, spool.identity.experiment)
    with tracking_errors(settings):
        run_id = find_or_make_run(store, spool.identity)
        for batch in _batches(events):
            _send_batch(store.client, run_id, spool, batch)
            if batch[-1] is events[-1] and (status := batch[-1].get("end")):  # an earlier end is that of a killed try
                store.client.set_terminated(run_id, status)
            start += len(batch)
            spool.mark_sent(uri, start)


def find_or_make_run(store: Store, identity: RunIdentity) -> str:
    """The id of the stage's run below its parent; both are found by their tags or made."""
    parent = _find_or_make(store, {"pipeline.key": identity.pipeline, "stage": "pipeline"}, identity, parent=None)
    tags = {"pipeline.key": identity.pipeline, "stage": identity.stage, "stage.key": identity.key}
    return _find_or_make(store, tags, identity, parent=parent)


def _find_or_make(store: Store, tags: dict[str, str], identity: RunIdentity, parent: str | None) -> str:
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    found = store.client.search_runs([store.experiment_id], wanted, max_results=1)
    if found:
        if parent:
            store.client.update_run(found[0].info.run_id, status="RUNNING")
        return str(found[0].info.run_id)
    family = {"mlflow.parentRunId": parent} if parent else {}
    name = identity.stage if parent else f"{identity.experiment} {identity.pipeline[:8]}"
    run = store.client.create_run(store.experiment_id, tags=tags | identity.tags | family, run_name=name)
    _log_params(store.client, run.info.run_id, identity.params)
    if not parent:
        store.client.set_terminated(run.info.run_id, "FINISHED")
    return str(run.info.run_id)


def _log_params(client: Any, run_id: str, params: dict[str, str]) -> None:
    from mlflow.entities import Param

    rows = iter(Param(name, value) for name, value in params.items())
    while batch := list(islice(rows, 100)):
        client.log_batch(run_id, params=batch)


def _batches(events: list[Event]) -> Iterator[list[Event]]:
    for start in range(0, len(events), _BATCH):
        yield events[start : start + _BATCH]


def _send_batch(client: Any, run_id: str, spool: Spool, batch: list[Event]) -> None:
    from mlflow.entities import Metric, RunTag

    points = [event for event in batch if "metric" in event]
    _look_up(client, run_id, spool, {event["metric"] for event in points})
    new = [event for event in points if event["step"] not in spool.there[event["metric"]]]
    client.log_batch(run_id, metrics=[Metric(e["metric"], e["value"], e["time"], e["step"]) for e in new])
    for tags in (event["tags"] for event in batch if "tags" in event):
        client.log_batch(run_id, tags=[RunTag(name, str(value)) for name, value in tags.items()])
    for name in (event["artifact"] for event in batch if "artifact" in event):
        client.log_artifact(run_id, str(spool.files / name))


def _look_up(client: Any, run_id: str, spool: Spool, names: Iterable[str]) -> None:
    """Ask once for the steps that MLflow has of each name: an earlier process may have sent without marking it."""
    unknown = [name for name in names if name not in spool.there]
    known = client.get_run(run_id).data.metrics if unknown else {}
    for name in unknown:
        history = client.get_metric_history(run_id, name) if name in known else []
        spool.there[name] = {point.step for point in history}
