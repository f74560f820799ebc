"""What a job is asked to do: one value, kept in the depot under the job's name.

jobs/train-5f0c3a9e1b7d2468-c41d07-1/request.json     what is asked, written before the job is submitted
jobs/train-5f0c3a9e1b7d2468-c41d07-1/answer.json      what came of it, written at its end; empty while it is at work

Whoever may write to the depot could exchange a request while its job waits, so a job is told its request's SHA-256.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipelines.depot.ref import Ref
from pipelines.errors import DataError
from pipelines.runs.digest import digest

FORMAT_VERSION = 2


@dataclass(frozen=True)
class Request:
    """One stage, and all that it needs."""

    stage: str
    key: str
    """Of the work, 16 hexadecimal digits. Jobs with the same key do the same work, or further steps of it."""
    params: Mapping[str, Any]
    """Those that DVC knows the stage by."""
    code: Ref
    """The project's code and params.yaml."""
    inputs: Mapping[str, Ref]
    """By their folder in the project: results/prepare .."""
    settings: Mapping[str, Any]
    """infra/cluster.yaml as it is there. No secrets: those are in the environment of the cluster's machines."""
    git: Mapping[str, str]
    """Tags that say from which commit it comes; the job has no repository."""
    stalled_after_s: float
    """Ended as failed when it counts nothing further for so long."""
    source: str
    """Digest of the code that the stage depends on."""
    place: str
    """Of the backend that was asked (`Backend.place`)."""

    @property
    def work(self) -> str:
        """Digest of what is worked on: while one job is at work, another one with the same need not begin."""
        return digest({"stage": self.stage, "key": self.key, "params": dict(self.params)})

    @property
    def outcome(self) -> str:
        """Digest of what decides the outputs: those of one job can be taken for another's with the same."""
        return digest({"work": self.work, "source": self.source})

    @property
    def asked(self) -> str:
        """Digest of all but where it comes from: a job with the same is the same job."""
        return digest({**asdict(self), "git": None})

    def encode(self) -> bytes:
        """As it is kept."""
        return (
            json.dumps({"format_version": FORMAT_VERSION, **asdict(self)}, indent=2, sort_keys=True) + "\n"
        ).encode()

    @staticmethod
    def decode(content: bytes) -> Request:
        """As it was kept.

        Raises:
            DataError: it is damaged or of another version.
        """
        try:
            values = json.loads(content)
            if (version := values.pop("format_version")) != FORMAT_VERSION:
                raise DataError(f"the job was asked for by another version of this code ({version}): use that one")
            inputs = {folder: Ref(**ref) for folder, ref in values.pop("inputs").items()}
            return Request(code=Ref(**values.pop("code")), inputs=inputs, **values)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise DataError("what the job was asked to do is damaged") from None


@dataclass(frozen=True)
class Answer:
    """What came of a job."""

    exit_status: int
    """Of the stage: 0 if its outputs are there, 75 if it was stopped and can go on."""
    said: str = ""
    """The last thing it said, where it failed."""
    outputs: Ref | None = None
    """results/STAGE."""
    kept: Ref | None = None
    """What of its .state outlives the job: what MLflow has not got yet, what the work cost."""

    def encode(self) -> bytes:
        """As it is kept."""
        return (json.dumps(asdict(self), indent=2, sort_keys=True) + "\n").encode()

    @staticmethod
    def decode(content: bytes) -> Answer:
        """As it was kept.

        Raises:
            DataError: it is damaged.
        """
        try:
            values = json.loads(content)
            outputs, kept = (Ref(**ref) if ref else None for ref in (values["outputs"], values["kept"]))
            return Answer(values["exit_status"], values["said"], outputs, kept)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise DataError("what the job left is damaged; run the stage again") from None


def request_note(name: str) -> str:
    """Where a job's request is in the depot."""
    return f"jobs/{name}/request.json"


def answer_note(name: str) -> str:
    """Where its answer is."""
    return f"jobs/{name}/answer.json"
