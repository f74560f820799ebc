"""A job's folder, on this machine or on a file system that a cluster's machines share.

code/        what it runs, and where
log.txt      what it prints
lock         held by who starts it and, on this machine, by the job: the kernel frees it when the last of them dies
process      number of the shell that runs its command
cancelled    somebody wanted it to stop
status       exit status of its command, once that has ended
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipelines.backends.backend import KEPT_S, AlreadyThere, State, Status
from pipelines.backends.text import decoded
from pipelines.errors import PipelineError

_LOCK, _PROCESS, _CANCELLED, _STATUS = "lock", "process", "cancelled", "status"
_SHELL = f"""trap : TERM
rm -f ../{_STATUS}
echo $$ > ../{_PROCESS}
if [ -e ../{_CANCELLED} ]; then code=75; else "$@"; code=$?; fi
echo $code > ../{_STATUS}.new && mv ../{_STATUS}.new ../{_STATUS}
exit $code"""
_LOOK_S = 0.2
_SILENT_S = 10.0
"""A log to which nothing was added for so long may be one of a job that has ended without an exit status."""


@dataclass(frozen=True)
class JobFolder:
    """What is known of one job; `path` ends with its name."""

    path: Path

    @property
    def code(self) -> Path:
        """Where the job runs."""
        return self.path / "code"

    @property
    def log(self) -> Path:
        """What it prints."""
        return self.path / "log.txt"

    @property
    def there(self) -> bool:
        """Whether there is such a job."""
        return (self.path / _LOCK).exists()

    @property
    def asked_at(self) -> float:
        """When it was laid out, in seconds since 1970."""
        return (self.path / _LOCK).stat().st_mtime

    @contextmanager
    def make(self, code: Path) -> Iterator[int]:
        """Lay it out with a copy of `code`, all at once, and hold its lock for the length of the block.

        Yields:
            the lock's descriptor, for a process that is to hold it too.

        Raises:
            AlreadyThere: there is one.
            PipelineError: it cannot be written or locked.
        """
        try:
            lock = self._lay_out(code)
        except OSError as error:
            raise PipelineError(f"the job's folder {self.path} cannot be made: {error.strerror or error}") from error
        try:
            yield lock
        finally:
            os.close(lock)

    def _lay_out(self, code: Path) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        building = JobFolder(Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", dir=self.path.parent)))
        try:
            shutil.copytree(code, building.code)
            building.log.touch()
            lock = os.open(building.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                building.path.rename(self.path)
            except OSError:
                os.close(lock)
                if self.path.exists():
                    raise AlreadyThere(f"there is a job {self.path.name} in {self.path.parent}") from None
                raise
            return lock
        finally:
            shutil.rmtree(building.path, ignore_errors=True)

    def remove(self) -> None:
        """Of a job that was never submitted."""
        shutil.rmtree(self.path)

    def command(self, words: Sequence[str]) -> list[str]:
        """The job's command with all that is kept of it, to be run in `code`. `python` is the one that runs here."""
        return ["/bin/sh", "-c", _SHELL, "job", *(sys.executable if word == "python" else word for word in words)]

    @property
    def held(self) -> bool:
        """Whether it is being started, or runs on this machine."""
        with (self.path / _LOCK).open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    @property
    def process(self) -> int | None:
        """Of its shell; None where it has not begun."""
        return self._number(_PROCESS)

    @property
    def exit_status(self) -> int | None:
        """Of its command; None where it has not ended, or was killed together with its shell."""
        listed = any(path.name == _STATUS for path in self.path.iterdir())  # NFS may remember that it was not there
        return self._number(_STATUS) if listed else None

    def cancel(self) -> None:
        """Keep that somebody wants it to stop. One that has not begun will not."""
        (self.path / _CANCELLED).touch()

    def end(self, why: str, *, stopped: bool = False) -> Status:
        """How a job that is no more has ended; `why` is said where it has left no exit status.

        Args:
            why: what the backend knows.
            stopped: whether it knows that somebody stopped the job.
        """
        code = self.exit_status
        if code == 0:
            return Status(State.SUCCEEDED)
        stopped = stopped or (self.path / _CANCELLED).exists()
        return Status(State.STOPPED if stopped else State.FAILED, why if code is None else f"exit status {code}")

    def follow(self, skip: int = 0) -> Iterator[str]:
        """The log from the character `skip` on, until the job has ended or nothing was added for some seconds."""
        return decoded(self._pieces(), skip)

    def _pieces(self) -> Iterator[bytes]:
        with suppress(FileNotFoundError), self.log.open("rb") as file:
            silent_since = time.monotonic()
            while True:
                ended = self.exit_status is not None  # before the last look at the log
                while piece := file.read(1 << 16):
                    yield piece
                    silent_since = time.monotonic()
                if ended or time.monotonic() - silent_since > _SILENT_S:
                    return
                time.sleep(_LOOK_S)

    def _number(self, name: str) -> int | None:
        with suppress(FileNotFoundError, ValueError):
            return int((self.path / name).read_text())
        return None


def names_of_jobs(folder: Path, prefix: str) -> list[str]:
    """Of the jobs with a folder in `folder`."""
    return sorted(path.parent.name for path in folder.glob(f"{prefix}*/{_LOCK}") if path.parent.name[0] != ".")


def forget(folder: Path, known: Mapping[str, Status]) -> None:
    """Remove the folders of jobs that have ended and were asked for long ago. Another process may be at it, too."""
    until = time.time() - KEPT_S
    for job in (JobFolder(folder / name) for name, status in known.items() if status.state.ended):
        with suppress(FileNotFoundError):
            if job.asked_at < until:
                job.remove()
