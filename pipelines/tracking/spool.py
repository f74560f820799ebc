"""What is to be sent to MLflow, on this machine's disk until it is: one append-only file per run.

A stage appends and goes on; a thread sends (`sender.py`). Whatever a stage could not send is found by the next one, or
by `python -m pipelines.sync`. Each number is kept once per name and step, also when a resumed run tells it again. Where
the disk refuses an event its method raises OSError, and the file is as it was.

A spool has two locks. The stage that appends holds the one for its life; whoever sends holds the other while it does,
so that a stage never waits for a server that another process sends to.
"""

from __future__ import annotations

import fcntl
import shutil
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import IO

from pipelines.errors import TrackingError
from pipelines.project import state
from pipelines.tracking.lines import Event, Line, drop_torn_line, encode, read_lines
from pipelines.tracking.mark import Mark, drop_mark_ahead, read_mark, write_mark
from pipelines.tracking.told import Told


class Busy(TrackingError):
    """Another process is sending the same spool."""


class Unreadable(TrackingError):
    """Nothing says whose numbers a spool holds."""


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
    data: dict[str, str] | None = None
    """The images that it reads, see `inputs.py`."""

    @property
    def name(self) -> str:
        """File name of its spool."""
        return f"{self.stage}-{self.pipeline[:16]}-{self.key[:16]}"


class Spool:
    """The events of one run. Appended to by one process at a time, and sent by one."""

    def __init__(self, path: Path, lock: IO[str], of: RunIdentity | None = None) -> None:
        self.path = path
        self._lock = lock
        self._to_begin = of
        self._file: FileIO | None = None
        self._size = 0
        self.began_ms = _first_time(lock)
        """When a process began this run for the first time, in milliseconds since 1970; outlives what was sent."""
        drop_torn_line(path)
        drop_mark_ahead(self._mark, path.stat().st_size if path.exists() else 0)
        self._told = Told(self.events())

    @classmethod
    def open(cls, identity: RunIdentity, began_ms: int | None = None) -> Spool:
        """The spool of a run, made if need be; waits while another process appends to it.

        Args:
            began_ms: when the run began, where that was on another machine.
        """
        path = spool_folder() / f"{identity.name}.jsonl"
        lock = _hold(path.with_suffix(".lock"), wait=True)
        assert lock is not None
        _first_time(lock, began_ms)
        return cls(path, lock, identity)

    @classmethod
    def leftovers(cls) -> Iterator[Spool]:
        """Spools to which no living process appends and in which there is something."""
        for path in sorted(spool_folder().glob("*.jsonl")):
            if lock := _hold(path.with_suffix(".lock"), wait=False):
                spool = cls(path, lock)
                try:
                    if any(True for _ in spool.lines()):
                        yield spool
                finally:
                    spool.close()

    @classmethod
    def growing(cls) -> list[str]:
        """Names of those to which a living process appends; it sends them itself."""
        names = []
        for path in sorted(spool_folder().glob("*.jsonl")):
            lock = _hold(path.with_suffix(".lock"), wait=False)
            if lock is None:
                names.append(path.stem)
            else:
                lock.close()
        return names

    @property
    def identity(self) -> RunIdentity:
        """As its first line says.

        Raises:
            Unreadable: that is damaged.
        """
        for event in self.events():
            if "run" in event:
                return RunIdentity(**event["run"])
        raise Unreadable(f"no line of {self.path} says whose numbers these are: its beginning is damaged")

    @property
    def files(self) -> Path:
        """Copies of the artifacts, since a stage's folder may be gone when they are sent."""
        return self.path.with_suffix(".files")

    def begin(self) -> None:
        """Say which run this is, before all else; again where a process resumes it: it is not at its end then."""
        if self._to_begin:
            self._write({"run": self._to_begin.__dict__, "time": _now_ms()})
            self._to_begin = None

    def metric(self, name: str, step: int, value: float) -> None:
        """A number, see `metrics`."""
        self.metrics(step, {name: value})

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers, each once per name and step; all of them are kept or none."""
        if events := self._told.fresh(step, values, _now_ms()):
            self._append(*events)
            for event in events:
                self._told.add(event)

    def tags(self, tags: dict[str, str]) -> None:
        """Facts about the run."""
        self._append({"tags": tags})

    def artifact(self, path: Path) -> None:
        """A file, copied now. One that is not there, or no longer, is told of."""
        if not path.is_file():
            print(f"warning: not there, so not in MLflow: {path}", file=sys.stderr)
            return
        self.files.mkdir(exist_ok=True)
        copying = self.files / f".{path.name}.copying"
        try:
            shutil.copy2(path, copying)
            copying.replace(self.files / path.name)
        finally:
            copying.unlink(missing_ok=True)
        self._append({"artifact": path.name})

    def take(self, event: Event) -> None:
        """An event of another machine's spool, as it was told there; a number that is known here is left out."""
        if not self._told.has(event):
            self._append(event)
            self._told.add(event)

    def end(self, status: str) -> None:
        """The run is over: FINISHED, FAILED or KILLED."""
        self._append({"end": status, "time": _now_ms()})

    def lines(self, start: int = 0) -> Iterator[Line]:
        """The lines from a place in bytes."""
        return read_lines(self.path, start)

    def events(self) -> Iterator[Event]:
        """All events."""
        return (line.event for line in self.lines())

    @property
    def ended(self) -> bool:
        """Whether the run is over: a resumed one goes on after an earlier end."""
        last = deque(self.events(), maxlen=1)
        return bool(last) and "end" in last[0]

    def mark(self, uri: str) -> Mark:
        """How far the MLflow at `uri` has it."""
        return read_mark(self._mark, uri, self.path.stat().st_size if self.path.exists() else 0)

    def set_mark(self, mark: Mark) -> None:
        """Note how far it is sent; whoever does so is `sending`."""
        write_mark(self._mark, mark)

    def unsent(self, uri: str) -> Counter[str]:
        """How many `numbers`, `facts` and `files` the MLflow at `uri` lacks; no entry for what it has all of."""
        mark = self.mark(uri)
        kinds = {"metric": "numbers", "tags": "facts", "artifact": "files", "end": "facts"}
        missing = (line for line in self.lines() if line.at >= mark.offset or line.at in mark.left)
        return Counter(kind for line in missing for key, kind in kinds.items() if key in line.event)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Be the only one who sends it, for the length of the block.

        Raises:
            Busy: another process does.
        """
        lock = _hold(self.path.with_suffix(".sending"), wait=False)
        if lock is None:
            raise Busy("another process is sending it")
        with lock:
            yield

    def remove(self, uri: str) -> None:
        """The MLflow at `uri` has all of it and the run is over. Says so if some of it was damaged.

        Does nothing if a process has appended since, or appends: it will see to it.

        Raises:
            Busy: another process is sending it.
        """
        appending = self._lock if not self._lock.closed else _hold(self.path.with_suffix(".lock"), wait=False)
        if appending is None:
            return
        with appending, self.sending():
            if not self.path.exists() or self.unsent(uri):
                return
            if damaged := sum(not event for event in self.events()):
                print(f"warning: damaged, so not in MLflow: {damaged} lines of {self.path.name}", file=sys.stderr)
            self._mark.unlink(missing_ok=True)  # first: a mark must not outlive what it counts
            self.path.unlink(missing_ok=True)
            shutil.rmtree(self.files, ignore_errors=True)

    def close(self) -> None:
        """Let other processes append to it."""
        if self._file:
            self._file.close()
            self._file = None
        self._lock.close()

    @property
    def _mark(self) -> Path:
        return self.path.with_suffix(".sent")

    def _append(self, *events: Event) -> None:
        self.begin()
        self._write(*events)

    def _write(self, *events: Event) -> None:
        """Whole lines or none: the next one would be glued to half a line. The kernel keeps them if this process dies;
        no number waits for the disk."""
        if self._file is None:
            self._file = self.path.open("ab", buffering=0)
            self._size = self._file.tell()
        content = b"".join(map(encode, events))
        written = 0
        try:
            while written < len(content):
                written += self._file.write(content[written:])
        except OSError:
            self._file.truncate(self._size)
            raise
        self._size += written


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _first_time(lock: IO[str], now_ms: int | None = None) -> int:
    lock.seek(0)
    if not (noted := lock.read()):
        noted = str(now_ms or _now_ms())
        lock.write(noted)
        lock.flush()
    return int(noted)


def _hold(path: Path, *, wait: bool) -> IO[str] | None:
    lock = path.open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        lock.close()
        return None
    return lock
