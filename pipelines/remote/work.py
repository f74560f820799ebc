"""One piece of work as a job elsewhere, from the first question for it until what it left is here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from pipelines.backends.backend import State
from pipelines.errors import DataError, Interrupted, JobFailed, ParamsError
from pipelines.remote.collect import keep
from pipelines.remote.follow import COME_BACK, Detach, detaching, follow
from pipelines.remote.start import job_for, last_for, usable_answer_of
from pipelines.tracking.changes import holds_secret

if TYPE_CHECKING:
    from pipelines.backends.backend import Backend, Status
    from pipelines.depot.depot import Depot
    from pipelines.remote.names import Name
    from pipelines.remote.request import Answer, Request
    from pipelines.settings import Settings


class Work:
    """A request, and who carries it out."""

    def __init__(
        self,
        request: Request,
        depot: Depot,
        backend: Backend,
        settings: Settings,
        collect: Callable[[Answer], None],
        *,
        again: bool = False,
    ) -> None:
        """Args:
        collect: brings here what a job has left.
        again: what a job has left that has already ended is not wanted.
        """
        self._request = request
        self._depot = depot
        self._backend = backend
        self._settings = settings
        self._collect = collect
        last = last_for(request, depot) if again else None
        self._useless: set[Name] = {last} if last else set()
        self._environment = passed_on(settings)
        self._followed: Name | None = None

    def run(self) -> None:
        """Until what it leaves is here.

        Raises:
            JobFailed: it failed there; the message is its own. Or the machines of `jobs.attempts` jobs died.
            Interrupted: Ctrl-C; the job goes on, or was stopped, as `jobs.on_interrupt` says.
            PipelineError: a job cannot be started, the backend or the depot does not answer.
        """
        try:
            with detaching():
                self._bring()
        except Detach:
            raise Interrupted(self._leave()) from None

    def _bring(self) -> None:
        left = self._settings.jobs.attempts
        while left:
            name, before = job_for(self._request, self._depot, self._backend, self._environment, self._useless)
            if before:
                print(before.said)
                if self._take(name, before):
                    return
                continue
            left -= 1
            self._followed = name
            status = follow(str(name), self._backend)
            self._followed = None
            if self._done(name, status):
                return
        raise JobFailed(
            f"{self._settings.jobs.attempts} jobs in a row ended without a word (jobs.attempts): their machines died, "
            f"or were too small, or do not see {self._depot.uri}. See `python -m pipelines.jobs logs {name}`; the same "
            "command goes on from the newest checkpoint"
        )

    def _leave(self) -> str:
        """What becomes of the job whose end is not waited for."""
        name = self._followed
        if name is None:
            return (
                f"if a job was started on {self._backend}, it goes on: {COME_BACK}; `python -m pipelines.jobs` lists it"
            )
        if self._settings.jobs.on_interrupt == "cancel":
            self._backend.cancel(str(name))
            return f"job {name} is asked to save and stop; the same command goes on with it"
        return (
            f"job {name} goes on, on {self._backend}: {COME_BACK}, or end it with `python -m pipelines.jobs cancel "
            f"{name}`"
        )

    def _done(self, name: Name, status: Status) -> bool:
        """Whether the outputs are here; else another job is to be started.

        Raises:
            JobFailed: another one would fail as well.
            Interrupted: it was asked to stop.
        """
        answer = usable_answer_of(self._depot, name)
        if answer is None:
            if status.state is State.STOPPED:
                raise Interrupted(f"job {name} was stopped from elsewhere; the same command goes on with its work")
            self._tell(
                f"job {name} ended without a word ({status.message or status.state}); its work is taken up again"
            )
            return False
        return self._take(name, answer)

    def _take(self, name: Name, answer: Answer) -> bool:
        """Whether what it left is here now; else nobody can use it any more.

        Raises:
            JobFailed, Interrupted: it says so.
        """
        if answer.kept:
            with suppress(DataError):  # numbers for MLflow that are gone are no reason to do the work again
                keep(answer.kept)
        if answer.exit_status == Interrupted.exit_status:
            raise Interrupted(f"job {name} was stopped and has saved: {answer.said}")
        if answer.exit_status:
            raise JobFailed(f"in job {name}: {answer.said.removeprefix('error: ')}", answer.exit_status)
        try:
            self._collect(answer)
        except DataError as error:
            self._useless.add(name)
            self._tell(f"what job {name} left cannot be used any more ({error}); doing it again")
            return False
        return True

    def _tell(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


def passed_on(settings: Settings) -> dict[str, str]:
    """The environment variables that go along with a job.

    Raises:
        ParamsError: one seems to hold a password or a key, which everybody on the cluster would read.
    """
    values = {name: os.environ[name] for name in settings.jobs.pass_on if name in os.environ}
    for name, value in values.items():
        if holds_secret(name, f"{name}={value}".encode()):
            raise ParamsError(
                f"{name} (jobs.pass_on) seems to hold a password or a key, which everybody on the cluster could read; "
                "give it to the cluster itself (infra/README.md)"
            )
    return values
