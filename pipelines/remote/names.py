"""Names of jobs: `train-5f0c3a9e1b7d2468-2` is the second attempt at that work."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(r"(?P<work>[a-z]+-[0-9a-f]{16})-(?P<attempt>[1-9][0-9]*)")


@dataclass(frozen=True, order=True)
class Name:
    """Of one job."""

    work: str
    """Stage and key."""
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


def newest(work: str, notes: list[str]) -> Name | None:
    """The last attempt of which there is a note jobs/NAME/request.json."""
    names = [parse(note.split("/")[1]) for note in notes if note.endswith("/request.json")]
    return max((name for name in names if name and name.work == work), default=None)
