"""Names of jobs: `train-5f0c3a9e1b7d2468-c41d07-2` is the second attempt at that work for that depot.

One cluster may serve several depots: the same work for another one is another job.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from pipelines.depot.depot import Depot
from pipelines.errors import DataError

_NAME = re.compile(r"(?P<work>[a-z]+-[0-9a-f]{16}(-[0-9a-f]{6})?)-(?P<attempt>[1-9][0-9]*)")  # once without depot
_OF_DEPOT = "name"


@dataclass(frozen=True, order=True)
class Name:
    """Of one job."""

    work: str
    """Stage, key and depot."""
    attempt: int
    """From 1."""

    def __str__(self) -> str:
        return f"{self.work}-{self.attempt}"

    @property
    def next(self) -> Name:
        """The attempt after this one."""
        return Name(self.work, self.attempt + 1)


def parse(text: str) -> Name | None:
    """The name in `text`, if it is one."""
    match = _NAME.fullmatch(text)
    return Name(match["work"], int(match["attempt"])) if match else None


def first(work: str, depot: Depot) -> Name:
    """The first attempt at some work (stage and key) for a depot, which is given a name of its own for that.

    Raises:
        DataError: that name is damaged.
    """
    if depot.noted(_OF_DEPOT) is None:
        depot.note(_OF_DEPOT, secrets.token_hex(3).encode(), new=True)
    given = (depot.noted(_OF_DEPOT) or b"").decode(errors="replace")
    if (name := parse(f"{work}-{given}-1")) is None:
        raise DataError(f"the name of {depot.uri} (its note {_OF_DEPOT!r}) is damaged: remove it, and it gets another")
    return name


def newest(work: str, notes: list[str]) -> Name | None:
    """The last attempt at some work of which there is a note jobs/NAME/request.json."""
    names = [parse(note.split("/")[1]) for note in notes if note.endswith("/request.json")]
    return max((name for name in names if name and name.work.startswith(work)), default=None)
