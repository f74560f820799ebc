"""Ctrl-C and SIGTERM at any time from the first question for a job to its end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pipelines.backends.backend import State, Status, Submission
from pipelines.depot.local import LocalDepot
from pipelines.depot.ref import put_folder
from pipelines.errors import Interrupted
from pipelines.remote.request import Request
from pipelines.remote.work import Work
from pipelines.settings import Settings
from tests.pipelines.remote.test_start import Known

AGAIN = "run the same command again to come back to it"


class Left(Known):
    """A backend at which Ctrl-C is pressed when it takes a job, or when it is asked how that is."""

    def __init__(self, number: signal.Signals, *, submitting: bool) -> None:
        super().__init__()
        self._number = number
        self._submitting = submitting
        self.cancelled: list[str] = []

    def __str__(self) -> str:
        return "a cluster"

    def submit(self, submission: Submission) -> None:
        super().submit(submission)
        self.states[submission.name] = State.RUNNING
        if self._submitting:
            os.kill(os.getpid(), self._number)

    def status(self, name: str) -> Status:
        if name in self.states:
            os.kill(os.getpid(), self._number)
        return super().status(name)

    def cancel(self, name: str) -> None:
        self.cancelled.append(name)


def work(backend: Left, folder: Path, monkeypatch: pytest.MonkeyPatch, **jobs: object) -> Work:
    """For a depot in a folder."""
    monkeypatch.setenv("PIPELINES_CACHE", str(folder / "cache"))
    depot, code = LocalDepot(folder / "depot"), folder / "code"
    code.mkdir()
    (code / "a.py").touch()
    request = Request("train", "0" * 16, {}, put_folder(depot, code), {}, {}, {}, 60, source="a", place="here")
    return Work(request, depot, backend, Settings(jobs=jobs), lambda answer: None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("how", ["detach", "cancel"])
def test_who_leaves_while_a_job_is_submitted_is_told_how_to_come_back(
    number: signal.Signals, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, before = Left(number, submitting=True), signal.getsignal(number)
    with pytest.raises(Interrupted, match=f"if a job was started on a cluster, it goes on: {AGAIN}"):
        work(backend, tmp_path, monkeypatch, on_interrupt=how).run()
    assert signal.getsignal(number) is before


def test_who_leaves_a_job_that_runs_is_told_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Left(signal.SIGINT, submitting=False)
    with pytest.raises(Interrupted, match=rf"job train-\S+-1 goes on, on a cluster: {AGAIN}, or end it with"):
        work(backend, tmp_path, monkeypatch).run()
    assert not backend.cancelled


def test_who_leaves_may_have_the_job_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Left(signal.SIGINT, submitting=False)
    with pytest.raises(Interrupted, match="is asked to save and stop"):
        work(backend, tmp_path, monkeypatch, on_interrupt="cancel").run()
    assert backend.cancelled == [submission.name for submission in backend.submitted]
