"""How far MLflow has a spool. Written when its answer is there: what is lost of it is only asked or sent again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.runs.digest import digest


@dataclass(frozen=True)
class Mark:
    """What is sent of a spool, to which server and run."""

    server: str
    """Digest of the server's address, which may hold a password."""
    run: str | None = None
    """MLflow's id of the run; None before it was found or made."""
    offset: int = 0
    """All lines before this byte were sent, but for `left`."""
    left: tuple[int, ...] = ()
    """Where the lines begin that were passed over: files, the run's end, and what the server refused."""


def read_mark(path: Path, uri: str, size: int) -> Mark:
    """The mark for the MLflow at `uri` in a spool of `size` bytes; another server has nothing of it."""
    try:
        content = json.loads(path.read_text())
        mark = Mark(**content | {"left": tuple(content["left"])})
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return Mark(digest(uri))
    return mark if mark.server == digest(uri) and mark.offset <= size else Mark(digest(uri))


def write_mark(path: Path, mark: Mark) -> None:
    """Note it, whole or not at all."""
    fresh = path.with_suffix(".sent.new")
    fresh.write_text(json.dumps(asdict(mark)))
    fresh.replace(path)


def drop_mark_ahead(path: Path, size: int) -> None:
    """Forget a mark that is ahead of its spool of `size` bytes: neither waits for the disk, and the power failed. It
    would count once the spool had grown past it."""
    try:
        ahead = json.loads(path.read_text())["offset"] > size
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return
    if ahead:
        path.unlink(missing_ok=True)
