"""A folder of this project as tasks on other machines open it: where it is, if they see it, or out of the depot."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipelines.depot.address import depot_of
from pipelines.depot.ref import Ref, lacking, put_tree
from pipelines.depot.tree import Tree, tree_of
from pipelines.errors import DataError
from pipelines.report.progress import progress
from pipelines.runs.manifest import FileEntry
from pipelines.settings import Settings

Stamp = tuple[tuple[str, int, int], ...]
"""Name, size and time of change (ns) of files: the same only where they are the same files, seen from wherever."""
_MB = 1e6
_SHOWN = 64e6
"""Bytes on their way from which on a person is told."""


@dataclass(frozen=True)
class SharedFolder:
    """Small enough to travel with every task."""

    path: Path
    """Where the driver has it."""
    ref: Ref | None = None
    """Where else it is; None: all machines see the path."""
    stamp: Stamp = ()
    """Of the files that count, at the path."""

    def here(self) -> Path:
        """The folder on this machine, for reading.

        Raises:
            DataError, StoreError: as `Ref.here`.
        """
        if self.ref is None or stamp_of(self.path, [name for name, _, _ in self.stamp]) == self.stamp:
            return self.path
        return self.ref.here()


def share(folder: Path, names: Iterable[str], settings: Settings) -> SharedFolder:
    """Make those files of a folder be had from all machines of the cluster.

    They are put into the depot where a cluster is joined and storage.uri says where that is; else nothing is read.

    Raises:
        DataError: a file is missing.
        StoreError: the depot does not answer.
    """
    return share_tree(folder, tree_of(folder, names), settings) if is_shared(settings) else SharedFolder(folder)


def share_tree(folder: Path, tree: Tree, settings: Settings) -> SharedFolder:
    """The same for files of which is known what they hold; they are put into the depot in any case.

    Raises:
        DataError, StoreError: as for `share`.
    """
    stamp = stamp_of(folder, tree.files)  # before they are read: what changes later is another folder
    if stamp is None:
        raise DataError(f"files of {folder} are missing; run the stage that made it again")
    depot = depot_of(settings)
    with _shown(folder, lacking(depot, tree).size) as on_put:
        return SharedFolder(folder, put_tree(depot, folder, tree, on_put), stamp)


@contextmanager
def _shown(folder: Path, size: int) -> Iterator[Callable[[FileEntry], None] | None]:
    """The progress where much is put."""
    if size < _SHOWN:
        yield None
        return
    one_at_a_time, done = threading.Lock(), 0
    with progress(f"{folder.name} to the depot", round(size / _MB), unit="MB") as bar:

        def on_put(entry: FileEntry) -> None:
            nonlocal done
            with one_at_a_time:
                done += entry.size
                bar.update(round(done / _MB))

        yield on_put


def is_shared(settings: Settings) -> bool:
    """Whether tasks may run on machines that see nothing but the storage."""
    return settings.ray.address is not None and settings.storage.uri is not None


def stamp_of(folder: Path, names: Iterable[str]) -> Stamp | None:
    """The stamp of these files; None where one of them is missing."""
    try:
        found = [(name, (folder / name).stat()) for name in sorted(names)]
    except OSError:
        return None
    return tuple((name, status.st_size, status.st_mtime_ns) for name, status in found)
