"""What of a depot nobody needs any more: old jobs, and folders and files that nothing leads to.

A folder is needed while its manifest is young, as whoever puts a folder writes that anew; while a young request or
answer names it; and while a job at work does. A file is needed while it is young, or a folder that is needed names it.
The last job's request and answer stay, for each work: the backends may still know jobs by their numbers.

Notes and folders go first. A folder that is put in the very moment in which its files go is found incomplete by who
fetches it; running the stage again puts it there.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipelines.data.thin import ORIGIN, decode_origin
from pipelines.depot.depot import Depot, Stored, note_name, object_name
from pipelines.depot.ref import Ref
from pipelines.depot.tree import Tree
from pipelines.errors import DataError
from pipelines.remote.names import Name, newest, parse
from pipelines.remote.request import Answer, Request, answer_note, request_note

_TREES, _OBJECTS, _JOBS = "notes/trees/", "objects/", "notes/jobs/"


@dataclass(frozen=True)
class Unneeded:
    """Names in a depot, and what is known of them."""

    jobs: tuple[Name, ...]
    """Whose requests and answers are old, and that were not the last for their work."""
    folders: Mapping[str, Stored]
    """Their manifests."""
    files: Mapping[str, Stored]

    def __bool__(self) -> bool:
        return bool(self.jobs or self.folders or self.files)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(each.size for each in self.files.values())


def unneeded(depot: Depot, days: float, at_work: Collection[str] = ()) -> Unneeded:
    """What was last put there more than `days` days ago, and is not needed.

    Args:
        at_work: names of jobs that are.

    Raises:
        StoreError: the depot does not answer.
    """
    limit = time.time() - 24 * 3600 * days
    notes, trees, files = (depot.stored(prefix) for prefix in (_JOBS, _TREES, _OBJECTS))
    young = {name for name, each in notes.items() if each.at >= limit}
    names = sorted({name for note in notes if (name := parse(PurePosixPath(note).parts[2]))})
    kept = [name for name in names if str(name) in at_work or young & _notes_of(name)]
    last = {newest(name.work, [request_note(str(each)) for each in names]) for name in names}
    needed = {ref.digest for name in kept for ref in _refs(depot, name)}
    needed |= {_digest(name) for name, each in trees.items() if each.at >= limit}
    needed, named = _followed(depot, needed)
    return Unneeded(
        tuple(name for name in names if name not in kept and name not in last),
        {name: each for name, each in trees.items() if _digest(name) not in needed},
        {name: each for name, each in files.items() if each.at < limit and name not in named},
    )


def prune(depot: Depot, these: Unneeded) -> None:
    """Delete them.

    Raises:
        StoreError: the depot does not answer; what is deleted is, the rest goes next time.
    """
    notes = [note for name in these.jobs for note in sorted(_notes_of(name))]
    for name in (*notes, *these.folders, *these.files):
        depot.remove(name)


def _notes_of(name: Name) -> set[str]:
    return {note_name(request_note(str(name))), note_name(answer_note(str(name)))}


def _digest(tree: str) -> str:
    return PurePosixPath(tree).stem


def _refs(depot: Depot, name: Name) -> Iterator[Ref]:
    """All folders that a job's request and answer name; what is damaged names none."""
    with suppress(DataError):
        if content := depot.noted(request_note(str(name))):
            request = Request.decode(content)
            yield from (request.code, *request.inputs.values())
    with suppress(DataError):
        if content := depot.noted(answer_note(str(name))):
            answer = Answer.decode(content)
            yield from (ref for ref in (answer.outputs, answer.kept) if ref)


def _followed(depot: Depot, digests: set[str]) -> tuple[set[str], set[str]]:
    """Those folders and the ones that they lead to, and the names of all their files."""
    todo, found, named = list(digests), set(digests), set[str]()
    while todo:
        with suppress(DataError):  # a folder that nobody can fetch keeps nothing
            tree = Ref(depot.uri, todo.pop()).tree()
            named |= {object_name(entry) for entry in tree.files.values()}
            if (origin := _origin(depot, tree)) and origin.digest not in found:
                found.add(origin.digest)
                todo.append(origin.digest)
    return found, named


def _origin(depot: Depot, tree: Tree) -> Ref | None:
    """Of a thin folder: where its shards are."""
    entry = tree.files.get(ORIGIN)
    return decode_origin(depot.part(entry, 0, entry.size)) if entry else None
