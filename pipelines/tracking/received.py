"""Numbers that a job elsewhere has spooled: taken into the spools here, and sent from there like any others."""

from __future__ import annotations

from pathlib import Path

from pipelines.depot.tree import check_name
from pipelines.tracking.lines import Event, read_lines
from pipelines.tracking.spool import RunIdentity, Spool


def take_in(folder: Path) -> None:
    """Add what is in the spools of another machine to those here. What is known here is not added twice.

    Raises:
        DataError: a name in them leads out of a folder.
    """
    for path in sorted(folder.glob("*.jsonl")):
        events = [line.event for line in read_lines(path, 0) if line.event]
        runs = [event for event in events if "run" in event]
        if not runs:
            continue  # its beginning is damaged: nobody knows whose numbers these are
        identity = RunIdentity(**runs[0]["run"])
        check_name(identity.name)  # what comes from elsewhere stays in the spool's folder
        spool = Spool.open(identity, began_ms=runs[0]["time"])
        try:
            for event in events:
                _take(spool, event, path.with_suffix(".files"))
        finally:
            spool.close()


def _take(spool: Spool, event: Event, files: Path) -> None:
    if name := event.get("artifact"):
        check_name(name)
        if (files / name).exists():
            spool.artifact(files / name)
    elif "run" not in event:
        spool.take(event)
