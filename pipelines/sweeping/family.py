"""A sweep's run in MLflow, with the pipelines of its trials as its children.

A trial's stages find or make their pipeline's run as always, and name the sweep in its tags; this one adopts them.
MLflow being away costs a line and stops nothing; the end of the sweep tries once more.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pipelines.errors import TrackingError
from pipelines.settings import Settings
from pipelines.sweeping.place import Outcome
from pipelines.tracking.lineage import git_tags
from pipelines.tracking.registry import versions
from pipelines.tracking.store import Store, connect, tracking_errors

_PARENT = "mlflow.parentRunId"
_EVERY_S = 60.0


class Family:
    """The runs of one sweep."""

    def __init__(self, name: str, experiment: str, axes: Sequence[str], settings: Settings) -> None:
        self._name, self._experiment, self._axes, self._settings = name, experiment, axes, settings
        self._store: Store | None = None
        self._run = ""
        self._next_s = 0.0
        """By the monotonic clock; never again after a failure."""

    def look(self) -> None:
        """Adopt the pipelines that are new, at most once a minute, so that trials need not wait for MLflow."""
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _EVERY_S
            with self._errors_told():
                self._look()

    def end(self, outcomes: Sequence[Outcome], status: str) -> None:
        """The sweep is over: adopt these outcomes' pipelines too, which may have been made before it."""
        with self._errors_told():
            self._look(outcomes)
            self._client.set_terminated(self._run, status)

    @contextmanager
    def _errors_told(self) -> Iterator[None]:
        try:
            with tracking_errors(self._settings):
                yield
        except TrackingError as error:
            self._store, self._next_s = None, math.inf
            print(f"the sweep's own run in MLflow is not complete: {error}", file=sys.stderr)

    def _look(self, outcomes: Sequence[Outcome] = ()) -> None:
        if self._store is None:
            self._store = connect(self._settings, self._experiment)
            self._run = self._find_or_make()
        for run in self._search(f"tags.stage = 'pipeline' and tags.sweep = '{self._name}'"):
            self._adopt(run)
        for outcome in outcomes:
            self._adopt(self._pipeline_of(outcome))

    @property
    def _client(self) -> Any:
        assert self._store is not None
        return self._store.client

    def _search(self, wanted: str) -> Sequence[Any]:
        assert self._store is not None
        return list(self._client.search_runs([self._store.experiment_id], wanted, max_results=1000))

    def _find_or_make(self) -> str:
        from mlflow.entities import Param

        assert self._store is not None
        found = self._search(f"tags.stage = 'sweep' and tags.sweep = '{self._name}'")
        if found:
            self._client.update_run(found[0].info.run_id, status="RUNNING")
            return str(found[0].info.run_id)
        tags = git_tags() | {"stage": "sweep", "sweep": self._name}
        run = self._client.create_run(self._store.experiment_id, tags=tags, run_name=f"sweep {self._name}")
        params = [Param(key, rest) for key, _, rest in (axis.partition("=") for axis in self._axes)]
        self._client.log_batch(run.info.run_id, params=params)
        return str(run.info.run_id)

    def _pipeline_of(self, outcome: Outcome) -> Any | None:
        """The parent of the register stage's run."""
        assert self._store is not None
        version = next((v for v in versions(self._store, outcome.name) if v.number == outcome.version), None)
        parent = version and self._client.get_run(version.run_id).data.tags.get(_PARENT)
        return self._client.get_run(parent) if parent else None

    def _adopt(self, pipeline: Any | None) -> None:
        if pipeline is not None and pipeline.data.tags.get(_PARENT) != self._run:
            self._client.set_tag(pipeline.info.run_id, _PARENT, self._run)
