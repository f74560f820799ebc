"""Taking in what a job left: its outputs, and what of its .state outlives it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pipelines.depot.ref import Ref
from pipelines.errors import DataError
from pipelines.project import results, state
from pipelines.remote.request import Answer
from pipelines.stage import outputs


def collect(stage: str, answer: Answer) -> None:
    """Place results/STAGE, every file of it compared with its SHA-256: all of it or nothing.

    Raises:
        DataError: something of it is missing in the depot, or damaged.
        StoreError: the depot does not answer.
    """
    if answer.outputs is None:
        raise DataError("it says that it went well, and left nothing")
    with outputs(results(stage)) as folder:
        answer.outputs.fill(folder)


def keep(kept: Ref) -> None:
    """Add to this project's .state what the job had in its own: numbers for MLflow, what the work cost."""
    from pipelines.tracking.received import take_in

    with tempfile.TemporaryDirectory() as folder:
        kept.fill(Path(folder))
        take_in(Path(folder) / "spool")
        _add_costs(Path(folder) / "took")


def _add_costs(folder: Path) -> None:
    for path in sorted(folder.glob("*.jsonl")):
        here = state() / "took" / path.name
        here.parent.mkdir(exist_ok=True)
        known = set(here.read_text().splitlines()) if here.exists() else set()
        with here.open("a") as file:
            file.writelines(f"{line}\n" for line in path.read_text().splitlines() if line not in known)
