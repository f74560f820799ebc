"""What a stage uses of MLflow: a run for the length of a block, which never holds the stage up and never fails it."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from pipelines.errors import first_line
from pipelines.params import Params
from pipelines.project import results
from pipelines.runs.digest import digest
from pipelines.settings import Settings
from pipelines.tracking.lineage import lineage, params_flat
from pipelines.tracking.sender import Sender
from pipelines.tracking.spool import RunIdentity, Spool

SWEEP = "PIPELINES_SWEEP"
"""Environment variable of a sweep's trials: its name."""


class Tracker:
    """Takes numbers, facts and files; they are on disk when a method returns and in MLflow soon after.

    What the disk refuses waits here, in order, and is tried again with all that comes later.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._waiting: deque[Callable[[], None]] = deque()
        self._keep(spool.begin)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name, each kept once per step."""
        for name, value in values.items():
            self._keep(partial(self._spool.metric, name, step, float(value)))

    def tags(self, tags: Mapping[str, str]) -> None:
        """Facts by name."""
        self._keep(partial(self._spool.tags, {name: str(value) for name, value in tags.items()}))

    def artifact(self, path: Path) -> None:
        """A file to look at."""
        self._keep(partial(self._spool.artifact, path))

    def end(self, status: str) -> str | None:
        """The run is over; what the disk refused to the last, if anything, for a person."""
        refused: list[OSError] = []
        last: Callable[[], None] = partial(self._spool.end, status)
        for write in (*self._waiting, last):
            try:
                write()
            except OSError as error:
                refused.append(error)
        return f"{len(refused)} numbers, facts or files ({first_line(refused[0])})" if refused else None

    def _keep(self, write: Callable[[], None]) -> None:
        self._waiting.append(write)
        try:
            while self._waiting:
                self._waiting[0]()
                self._waiting.popleft()
        except OSError:
            pass  # it stays the first of those that wait


@contextmanager
def stage_run(stage: str, params: Params, settings: Settings, key: str) -> Iterator[Tracker]:
    """A child of this pipeline's parent run. A stage with the same key goes on in the run that it began.

    MLflow being away, slow or full costs one line at the end; the next stage sends what was left. So does a full disk,
    where only what it refused until the end of the block is lost.

    Raises:
        OSError: at the beginning only: there is no room for a spool's empty files.
    """
    spool = Spool.open(identity(stage, params, key))
    tracker = Tracker(spool)
    sender = Sender(spool, settings)
    status = "FAILED"
    try:
        yield tracker
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        refused = tracker.end(status)
        sender.finish()
        if refused:
            print(f"not kept for MLflow: {refused}; make room and run the stage again", file=sys.stderr)
        if sender.problem:
            print(f"not yet in MLflow: {sender.problem}; kept, and sent by the next stage", file=sys.stderr)
        elif not refused:
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
        tags=lineage() | _sweep(),
    )


def _sweep() -> dict[str, str]:
    """The sweep that this process is a part of, if it is."""
    name = os.environ.get(SWEEP)
    return {"sweep": name} if name else {}


def pipeline_key(params: Params) -> str:
    """The parent run: one per content of params.yaml and of the prepared data."""
    from pipelines.data.manifest import MANIFEST, read_manifest

    prepared = results("prepare")
    data = read_manifest(prepared).digest if (prepared / MANIFEST).exists() else None
    return digest({"params": params.model_dump(mode="json", by_alias=True), "data": data})
