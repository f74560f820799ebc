"""What a stage's work cost, kept beside the runs and not in results/: it differs each time, and must change no digest.

One file for each piece of work, named by its key; a line for each attempt that came to its end, since a resumed job is
paid for more than once.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.project import state


@dataclass(frozen=True)
class Took:
    """One attempt."""

    seconds: float
    workers: int
    done: int
    """Steps or images that were made in that time."""
    hardware: str
    """Of the machine where the stage was started, or the GPU's name."""


def note(stage: str, key: str, took: Took) -> None:
    """Add an attempt. A full disk loses it, and nothing else."""
    try:
        path = _path(stage, key)
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:
            file.write(json.dumps(asdict(took)) + "\n")
    except OSError:
        pass


def total(stage: str, key: str) -> dict[str, Any]:
    """All attempts together: `seconds`, `worker_seconds`, `workers`, `done`, `per_second`, `hardware`; {} if none."""
    attempts = _attempts(_path(stage, key))
    if not attempts:
        return {}
    seconds, done = sum(each.seconds for each in attempts), sum(each.done for each in attempts)
    return {
        "seconds": round(seconds, 3),
        "worker_seconds": round(sum(each.seconds * each.workers for each in attempts), 3),
        "workers": attempts[-1].workers,
        "done": done,
        "per_second": round(done / seconds, 3) if seconds else None,
        "hardware": attempts[-1].hardware,
    }


def _attempts(path: Path) -> list[Took]:
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(Took(**json.loads(line)))
        except (ValueError, TypeError):
            continue  # half a line of a killed process
    return found


def _path(stage: str, key: str) -> Path:
    return state() / "took" / f"{stage}-{key[:32]}.jsonl"
