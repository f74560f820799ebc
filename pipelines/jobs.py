"""The jobs of this project that run, or ran, elsewhere: list them, read what they say, end them.

    python -m pipelines.jobs                       all of them
    python -m pipelines.jobs logs train-5f0c3a9e1b7d2468-c41d07-1
    python -m pipelines.jobs cancel train-5f0c3a9e1b7d2468-c41d07-1
    python -m pipelines.jobs prune                 what of the depot nobody has needed for a month; --delete deletes it

Where they run is in infra/cluster.yaml and the environment, as for the stages that started them. To come back to one,
run its stage again.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from pipelines.errors import DataError, Interrupted, ParamsError, PipelineError
from pipelines.settings import Settings, load_settings

if TYPE_CHECKING:
    from pipelines.backends.backend import Backend, Status
    from pipelines.depot.depot import Depot
    from pipelines.remote.names import Name

_SAVING_S = 120.0
"""How long `cancel` waits for a job to save."""


def show(settings: Settings, backend: Backend) -> None:
    """A table, the newest first: name, how long ago it was asked for, how it is, what came of it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pipelines.backends.backend import State, Status
    from pipelines.depot.address import depot_of
    from pipelines.remote.names import parse

    depot = depot_of(settings)
    notes = depot.notes("jobs/")
    names = {name for note in notes if (name := parse(note.split("/")[1]))}
    if not names:
        print(f"no job was started on {backend} for the depot {depot.uri}")
        return
    known = backend.attach("")
    jobs = [(known.get(str(name), Status(State.MISSING)), name) for name in names]
    table = Table(title=f"jobs on {backend}", title_justify="left")
    for column in ("job", "age", "is"):
        table.add_column(column, no_wrap=True)
    table.add_column("came to")
    for status, name in sorted(jobs, key=lambda job: (job[0].asked_at or 0.0, job[1]), reverse=True):
        is_now = "forgotten" if status.state is State.MISSING else str(status.state)
        table.add_row(str(name), _age(status.asked_at), is_now, Text(_came_to(depot, name, status)))
    Console().print(table)


def _came_to(depot: Depot, name: Name, status: Status) -> str:
    from pipelines.backends.backend import State
    from pipelines.remote.start import answer_of

    try:
        answer = answer_of(depot, name)
    except DataError:
        return "damaged"
    if answer is None:
        return "" if status.state is State.RUNNING else status.message
    return "its outputs are there" if answer.exit_status == 0 else answer.said


def _age(asked_at: float | None) -> str:
    if asked_at is None:
        return ""
    seconds = time.time() - asked_at
    size, unit = next((one for one in ((86400, "d"), (3600, "h"), (60, "min")) if seconds >= one[0]), (1, "s"))
    return f"{seconds / size:.0f} {unit}"


def logs(name: str, backend: Backend) -> None:
    """All that a job has said, and says until it ends."""
    from pipelines.backends.backend import State
    from pipelines.remote.follow import Detach, follow, read_again

    status = backend.status(name)
    if status.state is State.MISSING:
        raise PipelineError(f"{backend} knows no job {name}; `python -m pipelines.jobs` lists them")
    try:
        if status.state.ended:
            read_again(name, backend)
        else:
            status = follow(name, backend)
    except Detach:
        raise Interrupted(f"job {name} goes on, on {backend}") from None
    print(f"{name}: {status.state}", file=sys.stderr)


def cancel(name: str, backend: Backend) -> None:
    """Let it save and stop, and wait for that."""
    from pipelines.backends.backend import State

    before = backend.status(name)
    if before.state is State.MISSING:
        raise PipelineError(f"{backend} knows no job {name}; `python -m pipelines.jobs` lists them")
    if before.state.ended:
        print(f"{name} had ended before: {before.state}")
        return
    backend.cancel(name)
    until = time.monotonic() + _SAVING_S
    while not (status := backend.status(name)).state.ended:
        if time.monotonic() > until:
            raise PipelineError(f"{name} was asked to stop, and has not within {_SAVING_S:.0f} s: {status.state}")
        time.sleep(1)
    print(f"{name}: {status.state}")


def prune(settings: Settings, backend: Backend | None, days: float, *, delete: bool) -> None:
    """Say what of the depot nobody needs any more, or delete it."""
    from pipelines.depot.address import depot_of
    from pipelines.remote import prune as pruning

    known = backend.attach("") if backend else {}
    depot = depot_of(settings)
    these = pruning.unneeded(depot, days, {name for name, status in known.items() if not status.state.ended})
    if these:
        print(
            f"{depot.uri}: {len(these.folders)} folders, {len(these.files)} files ({these.size / 1e6:,.1f} MB) and "
            f"notes of {len(these.jobs)} jobs that nobody has needed for {days:g} days"
        )
    else:
        print(f"{depot.uri}: all was needed within {days:g} days")
    if these and delete:
        pruning.prune(depot, these)
        print("deleted")
    elif these:
        print("--delete deletes them; what a stage needs again it puts there again")


def main() -> None:
    """One of the four."""
    from pipelines.backends.choose import backend_of

    parser = argparse.ArgumentParser(prog="python -m pipelines.jobs", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("what", nargs="?", choices=["list", "logs", "cancel", "prune"], default="list")
    parser.add_argument("name", nargs="?", help="of the job, for logs and cancel")
    parser.add_argument("--older-than", metavar="DAYS", type=float, default=30.0, help="prune: more than a stage takes")
    parser.add_argument("--delete", action="store_true", help="prune: do it")
    given = parser.parse_args()
    if given.older_than < 0:
        parser.error("--older-than wants 0 days or more")
    settings = load_settings()
    backend = backend_of(settings)
    if given.what == "prune":
        prune(settings, backend, given.older_than, delete=given.delete)
    elif backend is None:
        raise ParamsError(
            "stages run here, as no jobs.backend is set and ray.address is no job server (http://HEAD:8265): there are "
            "no jobs"
        )
    elif given.what == "list":
        show(settings, backend)
    elif given.name is None:
        parser.error(f"{given.what} wants the name of a job")
    else:
        {"logs": logs, "cancel": cancel}[given.what](given.name, backend)


if __name__ == "__main__":
    from pipelines.stage import run

    run(main, arguments=True)
