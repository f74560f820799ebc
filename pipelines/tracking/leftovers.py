"""Sending what earlier processes could not, run by run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.errors import TrackingError, first_line
from pipelines.settings import Settings, tracking_uri
from pipelines.tracking.delivery import Delivery, PartlySent
from pipelines.tracking.refusals import redact
from pipelines.tracking.spool import Busy, Spool, Unreadable

_IN_A_ROW = 2
"""So many runs that cannot be sent: it is not the runs, and each would wait for the time-outs again."""


@dataclass(frozen=True)
class Sent:
    """What became of a run that an earlier process left."""

    name: str
    """Of its spool."""
    unsent: Counter[str]
    """What MLflow lacks, by kind; empty if nothing."""
    problem: str | None
    """Why, if it lacks something."""


def send_leftovers(settings: Settings) -> Iterator[Sent]:
    """Send each of them. A run that nobody ended was killed; its stage may go on in it later, also meanwhile."""
    failed, uri = 0, tracking_uri(settings)
    for spool in Spool.leftovers():
        problem: str | None = "not tried, as those before it could not be sent"
        if failed < _IN_A_ROW:
            problem = _send(spool, settings)
            failed = 0 if problem is None or isinstance(problem, _OfThisRun) else failed + 1
        yield Sent(spool.path.stem, spool.unsent(uri), problem)


class _OfThisRun(str):
    """A problem that says nothing of the other runs."""


def _send(spool: Spool, settings: Settings) -> str | None:
    try:
        if not spool.ended:
            spool.end("KILLED")
        spool.close()  # a stage that goes on in this run must not wait for the server
        Delivery(spool, settings).run()
        spool.remove(tracking_uri(settings))
    except (PartlySent, Busy, Unreadable) as error:
        return _OfThisRun(error)
    except TrackingError as error:
        return str(error)
    except Exception as error:  # one that cannot be read must not keep the others
        return _OfThisRun(redact(first_line(error)))
    return None


def amount(unsent: Counter[str]) -> str:
    """For a person: `812 numbers, 2 files`."""
    return ", ".join(f"{count:,} {kind if count > 1 else kind[:-1]}" for kind, count in sorted(unsent.items()))
