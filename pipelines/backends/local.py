"""Jobs on this machine that outlive the terminal they were started from."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipelines.backends.backend import AlreadyThere, State, Status, Submission

_LOG, _PROCESS, _STATUS, _CANCELLED, _CODE = "log.txt", "process.json", "status", "cancelled", "code"
_SHELL = f"""trap : TERM; "$@"; echo $? > ../{_STATUS}.new && mv ../{_STATUS}.new ../{_STATUS}"""
_LOOK_S = 0.2
_START_S = 10.0
"""A job without a process after so long was never started: who made its folder was killed."""


@dataclass(frozen=True)
class Local:
    """Each job is a process group with a folder of its own: the code it runs, its log, its number, its exit status."""

    folder: Path

    def __str__(self) -> str:
        return "this machine"

    def submit(self, submission: Submission) -> None:
        """In a session of its own, so that neither Ctrl-C nor the end of a terminal reaches it."""
        place = self.folder / submission.name
        try:
            place.mkdir(parents=True)
        except FileExistsError:
            raise AlreadyThere(f"there is a job {submission.name} in {self.folder}") from None
        shutil.copytree(submission.code, place / _CODE)
        command = [sys.executable if word == "python" else word for word in submission.command]
        with (place / _LOG).open("wb") as log:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _SHELL, "job", *command],
                cwd=place / _CODE,
                env={**os.environ, **submission.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        started = psutil.Process(process.pid).create_time()
        (place / _PROCESS).write_text(json.dumps({"pid": process.pid, "started": started}))

    def attach(self, prefix: str) -> dict[str, Status]:
        """From its folder."""
        names = [place.name for place in sorted(self.folder.glob(f"{prefix}*")) if place.is_dir()]
        return {name: self.status(name) for name in names}

    def status(self, name: str) -> Status:
        """By its exit status, or its process."""
        place = self.folder / name
        if not place.is_dir():
            return Status(State.MISSING)
        if (code := self._code(place)) is not None:
            if code == 0:
                return Status(State.SUCCEEDED)
            stopped = (place / _CANCELLED).exists()
            return Status(State.STOPPED if stopped else State.FAILED, f"exit status {code}")
        if self._process(place):
            return Status(State.RUNNING)
        if not (place / _PROCESS).exists() and time.time() - place.stat().st_mtime < _START_S:
            return Status(State.WAITING)
        if (code := self._code(place)) is not None:  # it has ended since the first look
            return self.status(name)
        return Status(State.FAILED, "its process was killed, or the machine was started anew")

    def logs(self, name: str, skip: int = 0) -> Iterator[str]:
        """Its file, until the job has ended."""
        try:
            file = (self.folder / name / _LOG).open(encoding="utf-8", errors="replace", newline="")
        except FileNotFoundError:
            return
        with file:
            file.read(skip)
            while True:
                ended = self.status(name).state.ended
                while piece := file.read(1 << 16):
                    yield piece
                if ended:
                    return
                time.sleep(_LOOK_S)

    def cancel(self, name: str) -> None:
        """SIGTERM to all of its processes."""
        if process := self._process(self.folder / name):
            (self.folder / name / _CANCELLED).touch()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)

    def _code(self, place: Path) -> int | None:
        with suppress(FileNotFoundError, ValueError):
            return int((place / _STATUS).read_text())
        return None

    def _process(self, place: Path) -> psutil.Process | None:
        """Of the job; None where it is gone. Another process may have its number by now."""
        with suppress(FileNotFoundError, ValueError, psutil.Error):
            known = json.loads((place / _PROCESS).read_text())
            process = psutil.Process(known["pid"])
            if process.create_time() == known["started"] and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None
