"""Which job does a piece of work: one that is at it, one that has done it, or a new one. Never two at a time."""

from __future__ import annotations

import sys
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from pipelines.backends.backend import AlreadyThere, Backend, State, Submission
from pipelines.depot.depot import Depot
from pipelines.errors import DataError, RunLocked
from pipelines.remote.names import Name, first, newest
from pipelines.remote.request import Answer, Request, answer_note, request_note
from pipelines.runs.digest import sha256_hex


def answer_of(depot: Depot, name: Name) -> Answer | None:
    """What came of a job; None while it is at work, and of one that was killed.

    Raises:
        DataError: it is damaged.
    """
    content = depot.noted(answer_note(str(name)))
    return Answer.decode(content) if content else None


def usable_answer_of(depot: Depot, name: Name) -> Answer | None:
    """The same; None also where it is damaged."""
    with suppress(DataError):
        return answer_of(depot, name)
    return None


def last_for(request: Request, depot: Depot) -> Name | None:
    """The last job that was asked for with this work's key."""
    work = f"{request.stage}-{request.key}"
    return newest(work, depot.notes(f"jobs/{work}-"))


def job_for(
    request: Request, depot: Depot, backend: Backend, environment: dict[str, str], useless: Collection[Name] = ()
) -> tuple[Name, Answer | None]:
    """A job that does this work, started if there is none, or one that has done it, with its answer.

    Args:
        environment: variables to set there.
        useless: jobs whose outputs are gone, or not wanted.

    Raises:
        RunLocked: a job is at work on the same run with other parameters.
        PipelineError: the backend or the depot does not answer, or refuses the job.
    """
    while True:
        last = last_for(request, depot)
        before = _Before.of(last, depot, backend) if last else None
        if before and before.state in (State.WAITING, State.RUNNING):
            before.refuse_other(request, backend)
            _tell(f"coming back to job {before.name} on {backend}")
            return before.name, None
        if before and before.has_done(request) and before.name not in useless:
            _tell(f"job {before.name} has done this before")
            return before.name, before.answer
        name = before.following(request) if before else first(f"{request.stage}-{request.key}", depot)
        if _begin(name, request, depot, backend, environment):
            return name, None


@dataclass(frozen=True)
class _Before:
    """The last job for some work."""

    name: Name
    request: Request | None
    answer: Answer | None
    state: State
    """MISSING also where another backend was given it. One that knows it was given it, perhaps by another address: no
    two jobs have the same name."""

    @classmethod
    def of(cls, name: Name, depot: Depot, backend: Backend) -> _Before:
        """As it is now."""
        return cls(name, _request_of(depot, name), usable_answer_of(depot, name), backend.status(str(name)).state)

    def refuse_other(self, asked: Request, backend: Backend) -> None:
        """Unless it works on what is asked."""
        if self.request is None or self.request.work != asked.work:
            raise RunLocked(
                f"job {self.name} is at work on the same run with other parameters, on {backend}: let it end, or cancel"
                f" it with `python -m pipelines.jobs cancel {self.name}`"
            )

    def has_done(self, asked: Request) -> bool:
        """Whether its outputs are those that are asked for."""
        same = self.request is not None and self.request.outcome == asked.outcome
        return same and self.answer is not None and self.answer.exit_status == 0

    def following(self, asked: Request) -> Name:
        """Of the job to be started: the next one; this one again where whoever asked for it was killed meanwhile."""
        if self.state is State.MISSING and self.request and not self.answer:
            if self.request.asked == asked.asked:
                return self.name
            if self.request.place != asked.place:
                _tell(f"job {self.name} was given to {self.request.place}, which is not asked whether it goes on")
        return self.name.next


def _request_of(depot: Depot, name: Name) -> Request | None:
    """What a job was asked to do; None where that is damaged, or was written by another version of this code."""
    content = depot.noted(request_note(str(name)))
    with suppress(DataError):
        return Request.decode(content) if content else None
    return None


def _begin(name: Name, request: Request, depot: Depot, backend: Backend, environment: dict[str, str]) -> bool:
    """Say that the job is to be, and start it; False if another process was faster, with a request of its own.

    One who is killed between the two leaves a job that is missing: the next one starts it under the same name.
    """
    note, content = request_note(str(name)), request.encode()
    if not depot.note(note, content, new=True):
        there = _request_of(depot, name)
        if there is None or there.asked != request.asked:
            return False
        content = depot.noted(note) or content
    submission = Submission(
        name=str(name),
        command=("python", "-m", "pipelines.remote.run", depot.uri, str(name), sha256_hex(content)),
        code=request.code.here(),
        environment=environment,
    )
    try:
        backend.submit(submission)
    except AlreadyThere:
        return True
    _tell(f"job {name} started on {backend}")
    return True


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
