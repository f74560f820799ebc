"""The runs of a pipeline in MLflow: one parent, one child per stage; each found by its tags, or made once.

Two processes may make the same run at once, and a server may make one although its answer was lost. So a run that was
just made is looked for again, and all who look choose the same one: that with parameters, which whoever chooses it
writes first; then the earliest. The others are deleted, being empty.
"""

from __future__ import annotations

import sys
from typing import Any

from pipelines.tracking.inputs import dataset_input
from pipelines.tracking.spool import RunIdentity, spool_folder
from pipelines.tracking.store import Store, exclusive

_PARAMS = 100
"""As many as MLflow takes at once."""


def find_or_make_run(store: Store, identity: RunIdentity, began_ms: int | None = None) -> str:
    """The id of the stage's run below its parent; both are found by their tags or made.

    One that was deleted on the server is restored: its numbers are not told twice, so a new one would lack them.
    """
    with exclusive(spool_folder() / ".runs"):
        parent = _Wanted(store, identity, {"pipeline.key": identity.pipeline, "stage": "pipeline"}).run(began_ms)
        tags = {"pipeline.key": identity.pipeline, "stage": identity.stage, "stage.key": identity.key}
        return _Wanted(store, identity, tags, parent).run(began_ms)


class _Wanted:
    """A run that is to be there, once."""

    def __init__(self, store: Store, identity: RunIdentity, tags: dict[str, str], parent: str | None = None) -> None:
        self._store = store
        self._client = store.client
        self._identity = identity
        self._tags = tags
        self._parent = parent

    def run(self, began_ms: int | None) -> str:
        """Its id."""
        found = self._look() or self._restore()
        if not found:
            made = self._make(began_ms)
            found = self._look() or [made]
        chosen, *twins = found
        for twin in twins:
            if not twin.data.params and not twin.data.metrics:
                self._client.delete_run(twin.info.run_id)
        run_id = str(chosen.info.run_id)
        self._complete(run_id, chosen.data)
        if self._parent and self._identity.data and not chosen.inputs.dataset_inputs:
            self._client.log_inputs(run_id, datasets=[dataset_input(self._identity.data)])
        return run_id

    def _look(self, *, deleted: bool = False) -> list[Any]:
        from mlflow.entities import ViewType

        wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in self._tags.items())
        view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
        found = self._client.search_runs([self._store.experiment_id], wanted, run_view_type=view, max_results=100)
        return sorted(found, key=lambda run: (not run.data.params, run.info.start_time, run.info.run_id))

    def _restore(self) -> list[Any]:
        for run in self._look(deleted=True)[:1]:
            self._client.restore_run(run.info.run_id)
            print(
                f"the MLflow run of {self._tags['stage']} was deleted there; it is restored and used", file=sys.stderr
            )
        return self._look()

    def _make(self, began_ms: int | None) -> Any:
        identity = self._identity
        family = {"mlflow.parentRunId": self._parent} if self._parent else {}
        name = identity.stage if self._parent else f"{identity.experiment} {identity.pipeline[:8]}"
        return self._client.create_run(
            self._store.experiment_id, start_time=began_ms, tags=self._tags | identity.tags | family, run_name=name
        )

    def _complete(self, run_id: str, data: Any) -> None:
        """What a process that made the run may not have come to."""
        from mlflow.entities import Param

        missing = [Param(name, value) for name, value in self._identity.params.items() if name not in data.params]
        for start in range(0, len(missing), _PARAMS):
            self._client.log_batch(run_id, params=missing[start : start + _PARAMS])
        if self._parent is None:
            if missing:
                self._client.set_terminated(run_id, "FINISHED")
        elif data.tags.get("mlflow.parentRunId") != self._parent:
            self._client.set_tag(run_id, "mlflow.parentRunId", self._parent)
