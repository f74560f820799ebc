"""Which checkpoints are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from pipelines.runs.layout import Folder, folders
from pipelines.runs.read import open_if_whole
from pipelines.runs.store import Store


def prune(run: Store, keep: int) -> list[str]:
    """Remove old checkpoints and what killed processes left; return the names of those that were removed.

    Kept are the newest `keep` that verify, and every final one. Newest both by step and by time of saving: a run that
    was longer once and goes on from an earlier step would otherwise lose what it has just saved. Nothing is removed on
    the strength of a checkpoint that does not verify.

    Raises:
        CheckpointError: the disk or the server refuses.
        ValueError: `keep` is below 2: a single checkpoint leaves nothing to fall back on.
    """
    if keep < 2:
        raise ValueError(f"keep must be at least 2, so that a damaged checkpoint has one before it; got {keep}")

    @cache
    def whole(folder: Folder) -> bool:
        return open_if_whole(run, folder) is not None

    by_step = folders(run)
    by_time = sorted(by_step, key=lambda folder: run.saved_at(folder.name), reverse=True)
    old = _after_newest(by_step, keep, whole) & _after_newest(by_time, keep, whole)
    removed = [folder.name for folder in sorted(old) if not folder.final]
    for name in removed:
        run.remove(name)
    run.sweep()
    return removed


def _after_newest(ordered: Sequence[Folder], keep: int, whole: Callable[[Folder], bool]) -> set[Folder]:
    """All that come after the first `keep` whole ones."""
    kept = 0
    for index, folder in enumerate(ordered):
        if kept == keep:
            return set(ordered[index:])
        kept += whole(folder)
    return set()
