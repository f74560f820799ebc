"""What a stage uses of MLflow: a run for the length of a block, which never holds the stage up and never fails it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipelines.params import Params
from pipelines.project import results
from pipelines.runs.digest import digest
from pipelines.settings import Settings
from pipelines.tracking.lineage import lineage, params_flat
from pipelines.tracking.sender import Sender
from pipelines.tracking.spool import RunIdentity, Spool


class Tracker:
    """Takes numbers, facts and files; they are on disk when a method returns and in MLflow soon after."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name, each kept once per step."""
        for name, value in values.items():
            self._spool.metric(name, step, float(value))

    def tags(self, tags: Mapping[str, str]) -> None:
        """Facts by name."""
        self._spool.tags({name: str(value) for name, value in tags.items()})

    def artifact(self, path: Path) -> None:
        """A file to look at."""
        self._spool.artifact(path)


@contextmanager
def stage_run(stage: str, params: Params, settings: Settings, key: str) -> Iterator[Tracker]:
    """A child of this pipeline's parent run. A stage with the same key goes on in the run that it began.

    MLflow being away, slow or full costs one line at the end; the next stage sends what was left.
    """
    spool = Spool.open(identity(stage, params, key))
    sender = Sender(spool, settings)
    status = "FAILED"
    try:
        yield Tracker(spool)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        spool.end(status)
        sender.finish()
        if sender.problem:
            print(f"not yet in MLflow: {sender.problem}; kept, and sent by the next stage", file=sys.stderr)
        else:
            spool.remove()
        spool.close()


def identity(stage: str, params: Params, key: str) -> RunIdentity:
    """What names the run of a stage, and the facts known at its start."""
    return RunIdentity(
        experiment=params.register_.name,
        pipeline=pipeline_key(params),
        stage=stage,
        key=key,
        params=params_flat(params),
        tags=lineage(),
    )


def pipeline_key(params: Params) -> str:
    """The parent run: one per content of params.yaml and of the prepared data."""
    from pipelines.data.manifest import MANIFEST, read_manifest

    prepared = results("prepare")
    data = read_manifest(prepared).digest if (prepared / MANIFEST).exists() else None
    return digest({"params": params.model_dump(mode="json", by_alias=True), "data": data})
