"""Which job does a piece of work: one that is at it, one that has done it, or a new one. Never two at a time."""

from __future__ import annotations

import sys
from collections.abc import Collection

from pipelines.backends.backend import AlreadyThere, Backend, State, Submission
from pipelines.depot.depot import Depot
from pipelines.errors import RunLocked
from pipelines.remote.names import Name, newest
from pipelines.remote.request import Answer, Request, answer_note, request_note


def answer_of(depot: Depot, name: Name) -> Answer | None:
    """What came of a job; None while it is at work, and of one that was killed.

    Raises:
        DataError: it is damaged.
    """
    content = depot.noted(answer_note(str(name)))
    return Answer.decode(content) if content else None


def job_for(
    request: Request, depot: Depot, backend: Backend, environment: dict[str, str], useless: Collection[Name] = ()
) -> Name:
    """The name of a job that does this work, which is started if there is none.

    Args:
        environment: variables to set there.
        useless: jobs whose outputs are gone.

    Raises:
        RunLocked: a job is at work on the same run with other parameters.
        PipelineError: the backend or the depot does not answer, or refuses the job.
    """
    work = f"{request.stage}-{request.key}"
    while True:
        name = newest(work, depot.notes(f"jobs/{work}-"))
        if name is None:
            name = Name(work, 1)
        elif name not in useless and (found := _useful(name, request, depot, backend)):
            return found
        elif backend.status(str(name)).state is not State.MISSING or answer_of(depot, name):
            name = name.next
        if _begin(name, request, depot, backend, environment):
            return name


def _useful(name: Name, request: Request, depot: Depot, backend: Backend) -> Name | None:
    """The job, if it is at the work or has done it."""
    content = depot.noted(request_note(str(name)))
    same = content is not None and Request.decode(content).work == request.work
    state, answer = backend.status(str(name)).state, answer_of(depot, name)
    if state in (State.WAITING, State.RUNNING):
        if not same:
            raise RunLocked(
                f"job {name} is at work on the same run with other parameters, on {backend}: let it end, or cancel it "
                f"with `python -m pipelines.jobs cancel {name}`"
            )
        print(f"coming back to job {name} on {backend}", file=sys.stderr, flush=True)
        return name
    if same and answer and answer.exit_status == 0:
        print(f"job {name} has done this before", file=sys.stderr, flush=True)
        return name
    return None


def _begin(name: Name, request: Request, depot: Depot, backend: Backend, environment: dict[str, str]) -> bool:
    """Say that the job is to be, and start it; False if another process was faster, with a request of its own.

    One who is killed between the two leaves a job that is missing: the next one starts it under the same name.
    """
    note = request_note(str(name))
    if not depot.note(note, request.encode(), new=True):
        there = depot.noted(note)
        if there is None or Request.decode(there).work != request.work:
            return False
    submission = Submission(
        name=str(name),
        command=("python", "-m", "pipelines.remote.run", depot.uri, str(name)),
        code=request.code.here(),
        environment=environment,
    )
    try:
        backend.submit(submission)
    except AlreadyThere:
        return True
    print(f"job {name} started on {backend}", file=sys.stderr, flush=True)
    return True
