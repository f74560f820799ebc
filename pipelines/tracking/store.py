"""The connection to MLflow: the embedded SQLite store, or the server that the settings name, with bounded time-outs."""

from __future__ import annotations

import fcntl
import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.errors import TrackingError
from pipelines.project import state
from pipelines.settings import Settings, tracking_uri
from pipelines.tracking.loading import ONE_AT_A_TIME, load_mlflow
from pipelines.tracking.refusals import answered, status, tracking_errors

__all__ = ["Patient", "Store", "connect", "embedded_folder", "exclusive", "quiet_mlflow", "tracking_errors"]


@dataclass(frozen=True)
class Store:
    """A client and the experiment that the runs of a model belong to."""

    client: Any
    """mlflow.MlflowClient, asking again where asking twice does no harm."""
    uri: str
    """Of the tracking server; may hold credentials, so it is never printed or stored."""
    experiment_id: str
    """Empty where there is none and none was to be made."""


class Patient:
    """MLflow's client. A call that may be repeated without harm is, after a while, if no answer or an error came.

    Whatever makes or appends something is not: where its answer was lost it was perhaps done. Two processes that set
    one tag or alias for the first time at once both insert it, and the database refuses one.
    """

    _HARMLESS = (
        "get_",
        "search_",
        "list_",
        "set_tag",
        "set_model_version_tag",
        "set_registered_model_alias",
        "update_run",
    )
    _OF_THE_DATABASE = "BAD_REQUEST"
    """What MLflow calls a refusal of its database."""

    def __init__(self, client: Any, retries: int) -> None:
        self._client = client
        self._retries = retries

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return partial(self._patiently, method) if name.startswith(self._HARMLESS) else method

    def _patiently(self, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
        from mlflow.exceptions import MlflowException

        for attempt in range(self._retries):
            try:
                return method(*args, **named)
            except MlflowException as error:
                said = status(error)
                at_once = getattr(error, "error_code", None) == self._OF_THE_DATABASE
                if answered(error) and not at_once and (said is None or said < 500):
                    raise
            time.sleep(0.5 * 2**attempt * random.uniform(0.5, 1.5))
        return method(*args, **named)


def embedded_folder() -> Path:
    """Where the embedded store keeps its database and artifacts."""
    return state() / "mlflow"


def connect(settings: Settings, experiment: str, *, make: bool = True) -> Store:
    """Reach MLflow and find the experiment, made or restored if need be; with `make=False` nothing is written there.

    Raises:
        TrackingError: the server does not answer within the time-outs, or refuses; the embedded store has been moved.
    """
    uri = tracking_uri(settings)
    mlflow = quiet_mlflow(settings)
    embedded = settings.tracking.uri is None
    with tracking_errors(settings), _first_use(embedded):
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        with ONE_AT_A_TIME:  # it loads the kind of store that the address names
            client = Patient(mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri), settings.tracking.retries)
        location = (embedded_folder() / "artifacts").as_uri() if embedded else None
        store = Store(client, uri, _experiment_id(client, experiment, location, make))
    if embedded and store.experiment_id:
        _check_place(store)
    return store


def quiet_mlflow(settings: Settings) -> Any:
    """The mlflow module, imported with bounded requests, without telemetry, pickle or its chatter."""
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(max(1, round(settings.tracking.timeout_s)))
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"  # MLflow repeats what was done, too: two runs instead of one
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    mlflow = load_mlflow()
    for name in ("mlflow", "alembic", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # prints what it raises, with two tracebacks
    return mlflow


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, made if need be, for the length of the block; another process waits for it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _first_use(embedded: bool) -> Iterator[None]:
    """Two processes that open a fresh database at once would both make its tables; one waits for the other."""
    if not embedded:
        yield
        return
    with exclusive(embedded_folder() / ".opening"):
        yield


def _experiment_id(client: Any, name: str, location: str | None, make: bool) -> str:
    from mlflow.exceptions import MlflowException

    if (found := client.get_experiment_by_name(name)) is not None:
        if make and found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    if not make:
        return ""
    try:
        return str(client.create_experiment(name, artifact_location=location and f"{location}/{name}"))
    except MlflowException:
        if (found := client.get_experiment_by_name(name)) is None:  # else another process was first
            raise
        return str(found.experiment_id)


def _check_place(store: Store) -> None:
    """The embedded store writes absolute artifact paths; in a moved project they lead nowhere."""
    location = store.client.get_experiment(store.experiment_id).artifact_location
    if not location.startswith(embedded_folder().as_uri()):
        raise TrackingError(
            "the project's folder was moved, and the embedded MLflow store still names its old place; "
            "run `python -m pipelines.tracking.moved` once to bring it up to date"
        )
