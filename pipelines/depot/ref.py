"""A folder in a depot: a few words that lead to all of it from any machine."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipelines.depot.address import depot_at
from pipelines.depot.cache import in_cache
from pipelines.depot.depot import Damaged, Depot
from pipelines.depot.stream import LEFTOVER, disk_errors
from pipelines.depot.tree import Tree, plain_file, tree_of
from pipelines.errors import DataError
from pipelines.runs.digest import sha256_hex
from pipelines.runs.manifest import FileEntry

Result = TypeVar("Result")

_AT_ONCE = 8
"""Files on their way."""


@dataclass(frozen=True)
class Ref:
    """A folder in a depot. It can be pickled, and holds no secret."""

    uri: str
    """Of the depot."""
    digest: str
    """Of the folder's `Tree`."""

    @property
    def depot(self) -> Depot:
        """Where it is."""
        return depot_at(self.uri)

    def tree(self) -> Tree:
        """What the folder holds.

        Raises:
            DataError: it is not in the depot, or damaged there.
            StoreError: the depot does not answer.
        """
        content = self.depot.noted(_tree_name(self.digest))
        where = f"the folder {self.digest[:12]}.. of the depot {self.uri}"
        if content is None:
            raise DataError(f"{where} is missing: it was never put there whole, or deleted. Run the stage again")
        if sha256_hex(content) != self.digest:
            raise DataError(
                f"{where} is damaged: its manifest has another SHA-256. Delete it, then run the stage again"
            )
        return Tree.decode(content)

    def fetch(self, target: Path) -> None:
        """Bring the folder to `target`: all of it, or nothing.

        Raises:
            DataError: there is something at `target`; a file is missing in the depot or damaged there.
            StoreError: the depot does not answer, or the disk refuses.
        """
        if target.exists():
            raise DataError(f"{target} is there already; name a folder that is not")
        building = target.with_name(f".{target.name}.{secrets.token_hex(4)}{LEFTOVER}")
        try:
            self.fill(building)
            with disk_errors(f"{target} could not be made"):
                building.rename(target)
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def here(self) -> Path:
        """The folder on this machine, for reading: in its cache, into which it is brought if need be.

        Raises:
            DataError, StoreError: as for `fetch`.
        """
        return in_cache(self.digest, self.fill)

    def fill(self, folder: Path) -> None:
        """Bring all files that `folder` lacks; each appears in it whole or not at all.

        Raises:
            DataError, StoreError: as for `fetch`.
        """
        depot, tree = self.depot, self.tree()
        with disk_errors(f"{folder} could not be written"):
            for above in {(folder / name).parent for name in tree.files} | {folder}:
                above.mkdir(parents=True, exist_ok=True)

        def bring(name: str, entry: FileEntry) -> None:
            if not (folder / name).exists():
                _fetch(depot, entry, folder / name)

        all_at_once(bring, tree)


def _fetch(depot: Depot, entry: FileEntry, target: Path) -> None:
    """A file that comes damaged twice is discarded: who makes it again can put it there then."""
    try:
        depot.fetch(entry, target)
    except Damaged:
        try:
            depot.fetch(entry, target)
        except Damaged:
            depot.discard(entry)
            raise


def put_folder(depot: Depot, folder: Path, names: Iterable[str] | None = None) -> Ref:
    """Store a folder, or those of its files that are named: what the depot lacks of it.

    Raises:
        DataError: as for `tree_of`; a file changes meanwhile.
        StoreError: the depot does not answer.
    """
    return put_tree(depot, folder, tree_of(folder, names))


def put_tree(depot: Depot, folder: Path, tree: Tree, on_put: Callable[[FileEntry], None] | None = None) -> Ref:
    """The same for a folder of which is known what it holds, so that only what the depot lacks is read.

    Args:
        on_put: called, from several threads, with each file that was put.

    Raises:
        DataError: a file of the tree is missing, or is another one.
        StoreError: the depot does not answer.
    """

    def put(name: str, entry: FileEntry) -> None:
        depot.put(plain_file(folder, name), entry)
        if on_put:
            on_put(entry)

    all_at_once(put, lacking(depot, tree))
    depot.note(_tree_name(tree.digest), tree.encode())
    return Ref(depot.uri, tree.digest)


def lacking(depot: Depot, tree: Tree) -> Tree:
    """What of the tree the depot has not.

    Raises:
        StoreError: the depot does not answer.
    """
    there = all_at_once(lambda _, entry: depot.has(entry), tree)
    return Tree({name: entry for name, entry in tree.files.items() if not there[name]})


def _tree_name(digest: str) -> str:
    return f"trees/{digest}.json"


def all_at_once(do: Callable[[str, FileEntry], Result], tree: Tree) -> dict[str, Result]:
    """Do it to every file, some at once; what it returned, by name. After an error no further one is begun."""
    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="depot")
    try:
        begun = {name: pool.submit(do, name, entry) for name, entry in tree.files.items()}
        return {name: each.result() for name, each in begun.items()}
    finally:
        pool.shutdown(cancel_futures=True)
