"""Which checkpoints are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from pipelines.runs.commit import disk_errors, remove, sweep
from pipelines.runs.layout import Folder, folders
from pipelines.runs.manifest import MANIFEST
from pipelines.runs.read import open_if_whole


def prune(run: Path, keep: int) -> list[Path]:
    """Remove old checkpoints and what killed processes left; return the checkpoints that were removed.

    Kept are the newest `keep` that verify, and every final one. Newest both by step and by time of saving: a run that
    was longer once and goes on from an earlier step would otherwise lose what it has just saved. Nothing is removed on
    the strength of a checkpoint that does not verify.

    Raises:
        CheckpointError: the disk refuses.
        ValueError: `keep` is below 2: a single checkpoint leaves nothing to fall back on.
    """
    if keep < 2:
        raise ValueError(f"keep must be at least 2, so that a damaged checkpoint has one before it; got {keep}")

    @cache
    def whole(folder: Folder) -> bool:
        return open_if_whole(folder) is not None

    by_step = folders(run)
    by_time = sorted(by_step, key=_saved_at, reverse=True)
    old = _after_newest(by_step, keep, whole) & _after_newest(by_time, keep, whole)
    removed = [folder.path for folder in sorted(old) if not folder.final]
    for path in removed:
        with disk_errors(path):
            remove(path)
    sweep(run)
    return removed


def _after_newest(ordered: Sequence[Folder], keep: int, whole: Callable[[Folder], bool]) -> set[Folder]:
    """All that come after the first `keep` whole ones."""
    kept = 0
    for index, folder in enumerate(ordered):
        if kept == keep:
            return set(ordered[index:])
        kept += whole(folder)
    return set()


def _saved_at(folder: Folder) -> int:
    """Nanoseconds; 0 for a folder without a manifest."""
    try:
        return (folder.path / MANIFEST).stat().st_mtime_ns
    except OSError:
        return 0
