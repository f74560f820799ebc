"""Jobs on this machine that outlive the terminal they were started from."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from pipelines.backends import place
from pipelines.backends.backend import State, Status, Submission
from pipelines.backends.folder import JobFolder, forget, names_of_jobs


@dataclass(frozen=True)
class Local:
    """Each job has a session of its own and a folder, whose lock its processes hold as long as one of them lives."""

    folder: Path

    def __str__(self) -> str:
        return "this machine"

    @property
    def place(self) -> str:
        """This folder of this machine."""
        return place.of_folder(self.folder)

    def submit(self, submission: Submission) -> None:
        """In a session of its own, so that neither Ctrl-C nor the end of a terminal reaches it."""
        forget(self.folder, self.attach(""))
        job = self._job(submission.name)
        with job.make(submission.code) as lock, job.log.open("ab") as log:
            process = subprocess.Popen(
                job.command(submission.command),
                cwd=job.code,
                env={**os.environ, **submission.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[lock],
            )
        threading.Thread(target=process.wait, name="wait for a job", daemon=True).start()  # or it would stay a zombie

    def attach(self, prefix: str) -> dict[str, Status]:
        """Those that have a folder."""
        return {name: self.status(name) for name in names_of_jobs(self.folder, prefix)}

    def status(self, name: str) -> Status:
        """By its lock and its exit status."""
        job = self._job(name)
        return replace(_status(job), asked_at=job.asked_at) if job.there else Status(State.MISSING)

    def logs(self, name: str, skip: int = 0) -> Iterator[str]:
        """Its file."""
        return self._job(name).follow(skip)

    def cancel(self, name: str) -> None:
        """SIGTERM to its command, not to what that has started: a training needs its Ray to save."""
        if self.status(name).state not in (State.WAITING, State.RUNNING):
            return
        job = self._job(name)
        job.cancel()
        if shell := job.process:
            with suppress(psutil.NoSuchProcess):
                for command in psutil.Process(shell).children():
                    command.terminate()

    def _job(self, name: str) -> JobFolder:
        return JobFolder(self.folder / name)


def _status(job: JobFolder) -> Status:
    held = job.held  # before its exit status, which is written while it is held
    if held and job.exit_status is None:
        return Status(State.RUNNING if job.process else State.WAITING)
    begun = job.process is not None
    return job.end("its processes were killed" if begun else "it did not begin: what started it was killed")
