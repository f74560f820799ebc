"""What a job is to those who start and watch it, wherever it runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from pipelines.errors import PipelineError

KEPT_S = 30 * 24 * 3600.0
"""How long after it was submitted what is known of a job is kept that has ended; then the next one that is submitted
clears it away."""
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,44}[a-z0-9])?")


class State(StrEnum):
    """Of a job. A job that is `MISSING` was never submitted, or its cluster has forgotten it."""

    MISSING = "missing"
    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def ended(self) -> bool:
        """Whether it will never do anything again."""
        return self in (State.SUCCEEDED, State.FAILED, State.STOPPED)


@dataclass(frozen=True)
class Status:
    """How a job is."""

    state: State
    message: str = ""
    """What the backend says of it, for a person: one line."""
    asked_at: float | None = field(default=None, compare=False)
    """When it was submitted, in seconds since 1970; None where the backend does not say."""


@dataclass(frozen=True)
class Submission:
    """A job to be started."""

    name: str
    """Unique for all time: lower case letters, digits and hyphens, at most 46, since Kubernetes takes no more."""
    command: tuple[str, ...]
    """A program and its arguments, run in a folder that holds `code`. No secrets: everybody on the cluster reads it."""
    code: Path
    """A folder on this machine, which goes along."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables to set there. No secrets, either."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"a job's name has lower case letters, digits and hyphens, at most 46, got {self.name!r}")


class Unreachable(PipelineError):
    """The backend does not answer. It says nothing of any job, so nobody may take a job for ended or missing."""


class AlreadyThere(PipelineError):
    """A job of this name was submitted before, perhaps a moment ago by another process."""


class Backend(Protocol):
    """Takes jobs, and knows of them by name. Every method may raise `Unreachable`."""

    def __str__(self) -> str:
        """Where it is, for a person."""
        ...

    @property
    def place(self) -> str:
        """Where its jobs are known. It is equal, on whatever machines, only for backends that know the same jobs. One
        that is reached by two addresses may have two.
        """
        ...

    def submit(self, submission: Submission) -> None:
        """Start a job. It goes on when this process ends.

        Raises:
            AlreadyThere: there is one of this name.
            PipelineError: the backend refuses it.
        """
        ...

    def attach(self, prefix: str) -> dict[str, Status]:
        """The jobs whose name begins so that the backend still knows, by name."""
        ...

    def status(self, name: str) -> Status:
        """How a job is."""
        ...

    def logs(self, name: str, skip: int = 0) -> Iterator[str]:
        """What a job prints, as it comes, from the character `skip` on; pieces of any length.

        The iterator may end at any time, and says nothing by it: whether the job has ended, `status` knows.
        """
        ...

    def cancel(self, name: str) -> None:
        """Ask a job to save and stop. Does nothing to one that has ended or is not there."""
        ...
