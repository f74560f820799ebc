"""What a stage uses of MLflow: a run for the length of a block, which never holds the stage up and never fails it."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from pipelines.data.manifest import MANIFEST, Manifest, read_manifest
from pipelines.errors import Interrupted, first_line
from pipelines.params import Params
from pipelines.project import results
from pipelines.runs.digest import digest
from pipelines.settings import Settings, tracking_uri
from pipelines.tracking.inputs import dataset_facts
from pipelines.tracking.leftovers import amount
from pipelines.tracking.lineage import lineage, params_flat
from pipelines.tracking.machine import Machine, Work
from pipelines.tracking.sender import Sender
from pipelines.tracking.spool import Busy, RunIdentity, Spool

SWEEP = "PIPELINES_SWEEP"
"""Environment variable of a sweep's trials: its name."""


class Tracker:
    """Takes numbers, facts and files; they are on disk when a method returns and in MLflow soon after.

    What the disk refuses waits here, in order, and is tried again with all that comes later.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._waiting: deque[Callable[[], None]] = deque()
        self._one_at_a_time = threading.Lock()
        self._keep(spool.begin)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name, each kept once per step."""
        self._keep(partial(self._spool.metrics, step, {name: float(value) for name, value in values.items()}))

    def tags(self, tags: Mapping[str, str]) -> None:
        """Facts by name."""
        self._keep(partial(self._spool.tags, {name: str(value) for name, value in tags.items()}))

    def artifact(self, path: Path) -> None:
        """A file to look at."""
        self._keep(partial(self._spool.artifact, path))

    def machine(self, node: int, values: Mapping[str, float], seconds: float | None = None) -> None:
        """How busy a node is (`machine.py`), by default now; the step is the seconds since the run's start."""
        since = time.time() - self._spool.began_ms / 1000 if seconds is None else seconds
        self.metrics(max(0, round(since)), {f"system/node_{node}/{name}": value for name, value in values.items()})

    def work(self, stage: str, work: Work, workers: int | None = None) -> None:
        """How long a stage's work took, on how many workers, and how busy this machine was with it."""
        self.metrics(0, {f"{stage}/seconds": work.seconds})
        if workers:
            self.tags({"workers": str(workers)})
        with suppress(Exception):  # a driver that fails must not fail the stage
            self.tags({"hardware.node_0": Machine().describe()})
        for seconds, values in work.readings:
            self.machine(0, values, seconds)

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
        with self._one_at_a_time:
            self._waiting.append(write)
            with suppress(OSError):  # then it stays, as the last of those that wait
                while self._waiting:
                    self._waiting[0]()
                    self._waiting.popleft()


@contextmanager
def stage_run(stage: str, params: Params, settings: Settings, key: str, *, send: bool = True) -> Iterator[Tracker]:
    """A child of this pipeline's parent run. A stage with the same key goes on in the run that it began.

    With `send=False` it is left for a later stage to send: MLflow takes longer to load than a stage that does nothing.

    MLflow being away, slow or full costs one line at the end; a later stage, while it works inside its block, or
    `python -m pipelines.sync` sends what was left. So does a full disk, where only what it refused until the end of the
    block is lost.

    Raises:
        OSError: at the beginning only: there is no room for a spool's empty files.
    """
    spool = Spool.open(identity(stage, params, key))
    tracker = Tracker(spool)
    sender = Sender(spool, settings) if send and settings.tracking.send else None
    status = "FAILED"
    try:
        yield tracker
        status = "FINISHED"
    except (KeyboardInterrupt, Interrupted):
        status = "KILLED"
        raise
    finally:
        refused = tracker.end(status)
        if refused:
            print(f"not kept for MLflow: {refused}; make room and run the stage again", file=sys.stderr)
        if sender:
            _finish(spool, sender, settings, complete=not refused)
        spool.close()


def _finish(spool: Spool, sender: Sender, settings: Settings, *, complete: bool) -> None:
    sender.finish()
    if sender.problem:
        print(_unsent(spool, settings, sender.problem), file=sys.stderr)
    elif complete:
        with suppress(Busy):  # who sends it removes it
            spool.remove(tracking_uri(settings))


def _unsent(spool: Spool, settings: Settings, problem: str) -> str:
    """One line: what MLflow lacks of this run, why, and how it gets there."""
    missing = amount(spool.unsent(tracking_uri(settings)))
    return f"not yet in MLflow: {missing} ({problem}); kept, and sent by a later stage or `python -m pipelines.sync`"


def identity(stage: str, params: Params, key: str) -> RunIdentity:
    """What names the run of a stage, and the facts known at its start."""
    manifest = _prepared()
    return RunIdentity(
        experiment=params.register_.name,
        pipeline=pipeline_key(params, manifest),
        stage=stage,
        key=key,
        params=params_flat(params),
        tags=lineage() | _sweep(),
        data=dataset_facts(manifest, stage) if manifest else None,
    )


def _sweep() -> dict[str, str]:
    """The sweep that this process is a part of, if it is."""
    name = os.environ.get(SWEEP)
    return {"sweep": name} if name else {}


def pipeline_key(params: Params, manifest: Manifest | None) -> str:
    """The parent run: one per content of params.yaml and of the prepared data."""
    data = manifest.digest if manifest else None
    return digest({"params": params.model_dump(mode="json", by_alias=True), "data": data})


def _prepared() -> Manifest | None:
    """Of the prepared data, if there is any."""
    folder = results("prepare")
    return read_manifest(folder) if (folder / MANIFEST).exists() else None
