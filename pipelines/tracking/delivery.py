"""Sending one spool to MLflow, in order, each event once: numbers and facts, then that the run is over, then files.

What the server refuses by itself is passed over and tried again later, after all that is new.

What was sent is marked only when the answer is there. Where it is not, MLflow may have the batch or not: then nothing
that is known of it counts any more, and it is asked which steps it has of each number before they are sent again. Facts
and files are set, not added, so that sending them twice is as good as once.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from math import inf
from typing import Any

from pipelines.errors import TrackingError
from pipelines.settings import Settings, tracking_uri
from pipelines.tracking.family import find_or_make_run
from pipelines.tracking.lines import Event, Line
from pipelines.tracking.mark import Mark
from pipelines.tracking.refusals import answered, explained, invalid, refused, tracking_errors
from pipelines.tracking.spool import Spool
from pipelines.tracking.store import Store, connect

_BATCH = 1000
_FACTS = 100
"""MLflow takes no more at once: numbers and all, and facts."""
_HOPELESS = 5
"""So many new events refused one by one without a reason, and none taken: it is not the events."""


class PartlySent(TrackingError):
    """All was sent but what the server refuses by itself; it is kept."""


class Delivery:
    """Of one spool, again and again while it grows. Between two times it remembers what MLflow has."""

    def __init__(self, spool: Spool, settings: Settings) -> None:
        self._spool = spool
        self._settings = settings
        self._uri = tracking_uri(settings)
        self._mark: Mark | None = None
        self.heard = -inf
        """When MLflow last answered, by the monotonic clock."""
        self._forget()

    def run(self, *, again: bool = True) -> None:
        """Send what MLflow does not have yet; with `again` also what it refused before.

        Raises:
            PartlySent: it refuses some of it, and has the rest.
            TrackingError: it cannot be used; what it took is marked.
        """
        with self._spool.sending():
            mark = self._spool.mark(self._uri)
            if mark != self._mark:  # another process has sent since
                self._forget()
            self._mark = mark
            fresh = any(True for _ in self._spool.lines(mark.offset))
            if not fresh and not (again and mark.left):
                return
            try:
                with tracking_errors(self._settings):
                    self._send(again)
            except PartlySent:
                raise
            except Exception:
                self._forget()
                raise

    def _forget(self) -> None:
        self._store: Store | None = None
        self._run = ""
        self._there: dict[str, set[int]] = {}
        self._taken = self._refusals = 0
        self._why: dict[int, str] = {}

    def _send(self, again: bool) -> None:
        assert self._mark is not None
        self._taken = self._refusals = 0
        if self._store is None:
            self._reach()
        before = self._left("metric", "tags") if again else []
        lines = list(self._spool.lines(self._mark.offset))
        for start in range(0, len(lines), _BATCH):
            batch = lines[start : start + _BATCH]
            self._batch(batch, batch[-1].end)
        self._over()
        for line in self._left("artifact") if again else [each for each in lines if "artifact" in each.event]:
            self._file(line)
        self._batch([self._current(line) for line in before], self._mark.offset)
        if self._mark.left:
            reasons = [self._why[at] for at in self._mark.left if at in self._why]
            raise PartlySent(f"the server refused it ({reasons[0]})" if reasons else "the server refused it before")

    def _reach(self) -> None:
        """Connect, and find the run or make it; one that is not the marked one has nothing yet."""
        identity = self._spool.identity
        self._store = connect(self._settings, identity.experiment)
        self.heard = time.monotonic()
        self._run = find_or_make_run(self._store, identity, self._spool.began_ms)
        self.heard = time.monotonic()
        if self._mark and self._mark.run != self._run:
            self._set(Mark(self._mark.server, self._run))
        if not self._spool.ended:
            self._client.update_run(self._run, status="RUNNING")

    @property
    def _client(self) -> Any:
        assert self._store is not None
        return self._store.client

    def _left(self, *kinds: str) -> list[Line]:
        """The lines that were passed over."""
        assert self._mark is not None
        at = set(self._mark.left)
        return (
            [line for line in self._spool.lines(min(at)) if line.at in at and set(kinds) & set(line.event)]
            if at
            else []
        )

    def _current(self, line: Line) -> Line:
        """A line that was passed over, without the facts that were told anew since."""
        if "tags" not in line.event:
            return line
        told = {name for later in self._spool.lines(line.end) for name in later.event.get("tags", {})}
        return replace(line, event={"tags": {name: v for name, v in line.event["tags"].items() if name not in told}})

    def _set(self, mark: Mark) -> None:
        self._spool.set_mark(mark)
        self._mark, self.heard = mark, time.monotonic()

    def _batch(self, batch: list[Line], end: int) -> None:
        """Numbers and facts; files and the end of the run are left for later, and so is what the server refuses."""
        if not batch:
            return
        assert self._mark is not None
        later = self._post([line for line in batch if "metric" in line.event or "tags" in line.event])
        later += [line for line in batch if "artifact" in line.event or "end" in line.event]
        before = set(self._mark.left) - {line.at for line in batch}
        self._set(replace(self._mark, offset=end, left=tuple(sorted(before | {line.at for line in later}))))

    def _post(self, lines: list[Line]) -> list[Line]:
        """Send them in one request. Where the server will not have it, find the lines that it refuses: these."""
        if not lines:
            return []
        assert self._mark is not None
        try:
            self._log([line.event for line in lines])
            self._taken += 1
        except Exception as error:
            self._there = {}
            if not refused(error):
                raise
            self._check_run()
            if len(lines) > 1:
                half = len(lines) // 2
                return self._post(lines[:half]) + self._post(lines[half:])
            tried_before = lines[0].at < self._mark.offset
            self._refusals += not (tried_before or invalid(error))
            if self._refusals >= _HOPELESS and not self._taken:
                raise
            self._why[lines[0].at] = explained(error)
            return lines
        return []

    def _log(self, events: list[Event]) -> None:
        from mlflow.entities import Metric, RunTag

        points = [event for event in events if "metric" in event]
        self._look_up({event["metric"] for event in points})
        new = [event for event in points if event["step"] not in self._there[event["metric"]]]
        facts = {name: str(value) for event in events for name, value in event.get("tags", {}).items()}
        tags = [RunTag(name, value) for name, value in facts.items()]
        if new:
            self._client.log_batch(self._run, [Metric(e["metric"], e["value"], e["time"], e["step"]) for e in new])
        for start in range(0, len(tags), _FACTS):
            self._client.log_batch(self._run, tags=tags[start : start + _FACTS])
        for event in new:
            self._there[event["metric"]].add(event["step"])

    def _look_up(self, names: set[str]) -> None:
        """Ask for the steps that MLflow has of each name of which that is not known."""
        unknown = names - self._there.keys()
        known = self._client.get_run(self._run).data.metrics if unknown else {}
        for name in sorted(unknown):
            history = self._client.get_metric_history(self._run, name) if name in known else []
            self._there[name] = {point.step for point in history}

    def _check_run(self) -> None:
        """A run that was deleted refuses everything."""
        if self._client.get_run(self._run).info.lifecycle_stage != "active":
            raise TrackingError("its run was just deleted on the server")

    def _file(self, line: Line) -> None:
        """One that the artifact store refuses is passed over: it must not hold up the others."""
        path = self._spool.files / line.event["artifact"]
        try:
            self._client.log_artifact(self._run, str(path))
        except Exception as error:
            if path.exists():
                if not answered(error):
                    raise
                self._why[line.at] = f"{path.name}: {explained(error)}"
                return
            print(f"warning: gone from {path.parent}, so not in MLflow: {path.name}", file=sys.stderr)
        self._done([line])

    def _over(self) -> None:
        """Say how the run ended, if that is the last that is known of it: an earlier end is that of a killed try.

        Before that, look once more whether a request that was thought lost has made the same run again.
        """
        assert self._store is not None
        if ends := self._left("end"):
            last = ends[-1]
            if not any(True for _ in self._spool.lines(last.end)):
                run = find_or_make_run(self._store, self._spool.identity, self._spool.began_ms)
                if run != self._run:
                    raise TrackingError("another process made the same run")
                self._client.set_terminated(run, last.event["end"], end_time=last.event.get("time"))
            self._done(ends)

    def _done(self, lines: list[Line]) -> None:
        assert self._mark is not None
        left = set(self._mark.left) - {line.at for line in lines}
        self._set(replace(self._mark, left=tuple(sorted(left))))
