"""A heavy stage as DVC starts it: here, or as a job elsewhere whose outputs come back."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from pipelines.errors import DataError, Interrupted, JobFailed
from pipelines.settings import Settings, load_settings
from pipelines.stage import run

if TYPE_CHECKING:
    from pipelines.backends.backend import Backend, Status
    from pipelines.depot.depot import Depot
    from pipelines.remote.names import Name
    from pipelines.remote.pack import KeyOf
    from pipelines.remote.request import Request


def run_stage(main: Callable[[], None], key_of: KeyOf | None = None) -> None:
    """Run the `main` of a stage's module as a command, where the settings say.

    Args:
        main: the stage, as it runs here.
        key_of: what names its work, if the stage has a name for it.
    """
    stage = main.__module__ if main.__module__ != "__main__" else sys.modules["__main__"].__spec__.name  # type: ignore[union-attr]
    stage = stage.rpartition(".")[2]

    def there_or_here() -> None:
        settings = load_settings()
        from pipelines.backends.choose import backend_of

        backend = backend_of(settings) if stage in settings.jobs.stages else None
        if backend is None:
            main()
        else:
            run_elsewhere(stage, settings, backend, key_of)

    there_or_here.__module__ = main.__module__
    run(there_or_here)


def run_elsewhere(stage: str, settings: Settings, backend: Backend, key_of: KeyOf | None = None) -> None:
    """Bring the work of a stage to its end on a backend, and its outputs here.

    Raises:
        JobFailed: the stage failed there; the message is its own.
        Interrupted: Ctrl-C; the job goes on, or was stopped, as `jobs.on_interrupt` says.
        PipelineError: the job cannot be started, its machines died too often, its outputs are gone.
    """
    from pipelines.depot.address import depot_of
    from pipelines.params import load_params
    from pipelines.remote.pack import check_place, request_of

    check_place(settings)
    depot = depot_of(settings)
    request = request_of(stage, load_params(), settings, depot, key_of)
    _Elsewhere(request, depot, backend, settings).run()


class _Elsewhere:
    """One piece of work."""

    def __init__(self, request: Request, depot: Depot, backend: Backend, settings: Settings) -> None:
        self._request = request
        self._depot = depot
        self._backend = backend
        self._settings = settings
        self._useless: set[Name] = set()
        self._environment = {name: os.environ[name] for name in settings.jobs.pass_on if name in os.environ}

    def run(self) -> None:
        """Until its outputs are here."""
        from pipelines.backends.backend import State, Status
        from pipelines.remote.start import answer_of, job_for

        for _ in range(self._settings.jobs.attempts):
            name = job_for(self._request, self._depot, self._backend, self._environment, self._useless)
            before = answer_of(self._depot, name)
            if before:
                print(before.said)
            if self._done(name, Status(State.SUCCEEDED) if before else self._watch(name)):
                return
        raise JobFailed(
            f"{self._settings.jobs.attempts} jobs in a row ended without a word (jobs.attempts): their machines died, "
            f"or were too small. See `python -m pipelines.jobs logs {name}`; the same command goes on from the newest "
            "checkpoint",
            1,
        )

    def _watch(self, name: Name) -> Status:
        """How the job ended."""
        from pipelines.remote.follow import COME_BACK, Detach, follow

        try:
            return follow(str(name), self._backend)
        except Detach:
            if self._settings.jobs.on_interrupt == "cancel":
                self._backend.cancel(str(name))
                raise Interrupted(f"job {name} is asked to save and stop; the same command goes on with it") from None
            raise Interrupted(
                f"job {name} goes on, on {self._backend}: {COME_BACK}, or end it with "
                f"`python -m pipelines.jobs cancel {name}`"
            ) from None

    def _done(self, name: Name, status: Status) -> bool:
        """Whether the outputs are here; else another job is to be started.

        Raises:
            JobFailed: another one would fail as well.
        """
        from pipelines.backends.backend import State
        from pipelines.remote.collect import collect, keep
        from pipelines.remote.start import answer_of

        answer = answer_of(self._depot, name)
        if answer is None:
            if status.state is State.STOPPED:
                raise Interrupted(f"job {name} was stopped from elsewhere; the same command goes on with its work")
            self._tell(
                f"job {name} ended without a word ({status.message or status.state}); its work is taken up again"
            )
            return False
        if answer.kept:
            with suppress(DataError):  # numbers for MLflow that are gone are no reason to do the work again
                keep(answer.kept)
        if answer.exit_status == Interrupted.exit_status:
            raise Interrupted(f"job {name} was stopped and has saved: {answer.said}")
        if answer.exit_status:
            raise JobFailed(f"in job {name}: {answer.said.removeprefix('error: ')}", answer.exit_status)
        try:
            collect(self._request.stage, answer)
        except DataError as error:
            self._useless.add(name)
            self._tell(f"what job {name} left cannot be used any more ({error}); doing it again")
            return False
        return True

    def _tell(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
