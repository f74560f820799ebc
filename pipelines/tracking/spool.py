"""What is to be sent to MLflow, on this machine's disk until it is: one append-only file per run.

A line is an event in JSON. A stage appends and goes on; a thread sends (`sender.py`). Whatever a stage could not send
is found by the next one. Each number is kept once per name and step, also when a resumed run tells it again. Where the
disk refuses an event its method raises OSError, and the file is as it was.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pipelines.project import state
from pipelines.runs.digest import digest

Event = dict[str, Any]
"""`{"run": identity}`, `{"metric": name, "step": .., "value": .., "time": ms}`, `{"tags": ..}`, `{"artifact": file}`,
`{"end": status}`; empty for a line that is damaged."""


def spool_folder() -> Path:
    """Where the spools are."""
    folder = state() / "spool"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@dataclass(frozen=True)
class RunIdentity:
    """What names a stage's run in MLflow, whichever process sends it."""

    experiment: str
    pipeline: str
    """Key of the parent run: the content of params.yaml and of the data."""
    stage: str
    key: str
    """Of the stage's own work; a resumed stage goes on in the run with the same key."""
    params: dict[str, str]
    tags: dict[str, str]

    @property
    def name(self) -> str:
        """File name of its spool."""
        return f"{self.stage}-{self.pipeline[:16]}-{self.key[:16]}"


class Spool:
    """The events of one run. Held by one process at a time."""

    def __init__(self, path: Path, lock: IO[str], of: RunIdentity | None = None) -> None:
        self.path = path
        self._lock = lock
        self._to_begin = of
        self._drop_torn_line()
        self._known = {(e["metric"], e["step"]) for e in self.events() if "metric" in e}
        self.there: dict[str, set[int]] = {}
        """Steps that MLflow had of each metric when this process first sent it."""

    @classmethod
    def open(cls, identity: RunIdentity) -> Spool:
        """The spool of a run, made if need be; waits while another process sends what an earlier one left."""
        path = spool_folder() / f"{identity.name}.jsonl"
        lock = _hold(path, wait=True)
        assert lock is not None
        return cls(path, lock, identity)

    @classmethod
    def leftovers(cls) -> Iterator[Spool]:
        """Spools that no living process holds and that say whose they are."""
        for path in sorted(spool_folder().glob("*.jsonl")):
            if lock := _hold(path, wait=False):
                spool = cls(path, lock)
                try:
                    if any("run" in event for event in spool.events()):
                        yield spool
                finally:
                    spool.close()

    @property
    def identity(self) -> RunIdentity:
        """As its first line says."""
        return next(RunIdentity(**event["run"]) for event in self.events() if "run" in event)

    @property
    def files(self) -> Path:
        """Copies of the artifacts, since a stage's folder may be gone when they are sent."""
        return self.path.with_suffix(".files")

    def begin(self) -> None:
        """Say which run this is, before all else; again where a process resumes it: it is not at its end then."""
        if self._to_begin:
            self._write({"run": self._to_begin.__dict__})
            self._to_begin = None

    def metric(self, name: str, step: int, value: float) -> None:
        """A number, once per name and step. One that is not finite becomes a tag: MLflow would store 1.8e308."""
        if (name, step) in self._known:
            return
        if math.isfinite(value):
            self._append({"metric": name, "step": step, "value": value, "time": time.time_ns() // 1_000_000})
        else:
            self.tags({f"not_finite.{name}": f"{value} at step {step}"})
        self._known.add((name, step))

    def tags(self, tags: dict[str, str]) -> None:
        """Facts about the run."""
        self._append({"tags": tags})

    def artifact(self, path: Path) -> None:
        """A file, copied now."""
        self.files.mkdir(exist_ok=True)
        copying = self.files / f".{path.name}.copying"
        try:
            shutil.copy2(path, copying)
            copying.replace(self.files / path.name)
        finally:
            copying.unlink(missing_ok=True)
        self._append({"artifact": path.name})

    def end(self, status: str) -> None:
        """The run is over: FINISHED, FAILED or KILLED."""
        self._append({"end": status})

    def events(self, start: int = 0) -> Iterator[Event]:
        """The events from a position in lines."""
        if self.path.exists():
            with self.path.open("rb") as file:
                for number, line in enumerate(file):
                    if number >= start and line.endswith(b"\n"):  # else another thread is writing it
                        yield _event(line)

    @property
    def ended(self) -> bool:
        """Whether the run is over: a resumed one goes on after an earlier end."""
        last = deque(self.events(), maxlen=1)
        return bool(last) and "end" in last[0]

    def sent(self, uri: str) -> int:
        """Lines that the MLflow at `uri` has; another one has none."""
        try:
            lines, server = self.path.with_suffix(".sent").read_text().split()
        except (FileNotFoundError, ValueError):
            return 0
        return int(lines) if server == digest(uri) else 0

    def mark_sent(self, uri: str, lines: int) -> None:
        """Note that the MLflow at `uri` has so many lines. Its address may hold a password, so its digest is kept."""
        mark = self.path.with_suffix(".sent")
        fresh = mark.with_suffix(".sent.new")
        fresh.write_text(f"{lines} {digest(uri)}")
        fresh.replace(mark)

    def remove(self) -> None:
        """Everything is sent and the run is over. Says so if some of it was damaged."""
        if damaged := sum(not event for event in self.events()):
            print(f"warning: damaged, so not in MLflow: {damaged} lines of {self.path.name}", file=sys.stderr)
        shutil.rmtree(self.files, ignore_errors=True)
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(".sent").unlink(missing_ok=True)

    def close(self) -> None:
        """Let other processes have it."""
        self._lock.close()

    def _append(self, event: Event) -> None:
        self.begin()
        self._write(event)

    def _write(self, event: Event) -> None:
        """A whole line or none: the next one would be glued to half a line."""
        line = (json.dumps(event, allow_nan=False) + "\n").encode()
        with self.path.open("ab", buffering=0) as file:
            before = file.tell()
            try:
                while line:
                    line = line[file.write(line) :]
            except OSError:
                file.truncate(before)
                raise

    def _drop_torn_line(self) -> None:
        """A process that was killed while writing leaves half a line at the end."""
        if self.path.exists() and not (content := self.path.read_bytes()).endswith(b"\n"):
            os.truncate(self.path, content.rfind(b"\n") + 1)


def _event(line: bytes) -> Event:
    try:
        event: Event = json.loads(line)
    except ValueError:
        return {}
    return event


def _hold(path: Path, *, wait: bool) -> IO[str] | None:
    lock = path.with_suffix(".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        lock.close()
        return None
    return lock
