"""Who holds a lock, as it is left for the one who is refused, and what that one is told."""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipelines.errors import RunLocked


@dataclass(frozen=True)
class Lock:
    """One of a run's locks."""

    file: str
    """Its name in the run's place."""
    holding: str
    """What is being done to the run while it is held, as a part of a sentence."""
    command: str | None
    """What the holder says of its command; None: its command line."""


def signature(lock: Lock) -> dict[str, Any]:
    """What this process leaves for the one who is refused."""
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": lock.command or " ".join(sys.orig_argv),
    }


def holder(content: bytes) -> str:
    """The process that signed `content`, as a part of a sentence."""
    try:
        there = json.loads(content)
        return f"process {there['pid']} on {there['host']} since {there['started']} ({there['command']})"
    except (ValueError, KeyError, TypeError):  # it has the lock and has not signed it yet
        return "another process"


def refusal(place: str, lock: Lock, content: bytes) -> RunLocked:
    """The error for the one who comes second; `content` is what the holder has left."""
    try:
        there = json.loads(content)
        remedy = f". Wait for it, or stop it with `kill {there['pid']}` on {there['host']}; then run the stage again"
    except (ValueError, KeyError, TypeError):
        remedy = "; try again in a moment"
    return RunLocked(f"the run in {place} is being {lock.holding} by {holder(content)}{remedy}")


def tell(words: str) -> None:
    """A line for the person who waits."""
    print(words, file=sys.stderr, flush=True)
