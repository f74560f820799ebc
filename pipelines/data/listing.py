"""All files below a folder that end in one of some suffixes, in an order that the file system has no part in."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipelines.errors import DataError

Identity = tuple[int, int]
"""Device and inode of a folder."""


@dataclass(frozen=True)
class Listing:
    """What lies below a folder."""

    files: tuple[str, ...]
    """Paths below the root with `/`, sorted: those with a wanted suffix, in small letters or capitals."""
    ignored: Counter[str]
    """All other files: suffix, or `hidden` or `without suffix` -> count."""


def list_files(root: Path, suffixes: frozenset[str]) -> Listing:
    """Search `root` and all its sub-folders, through symbolic links too, except those whose name begins with a dot.

    Raises:
        DataError: a folder cannot be listed.
    """
    files: list[str] = []
    ignored: Counter[str] = Counter()
    for file in _walk(root, "", ()):
        kind = _kind(file)
        if kind in suffixes:
            files.append(file)
        else:
            ignored[kind] += 1
    return Listing(tuple(sorted(files)), ignored)


def _walk(root: Path, below: str, parents: tuple[Identity, ...]) -> Iterator[str]:
    """Files below `root / below`. A link to a folder that it lies in is not followed: the way would not end."""
    try:
        status = (root / below).stat()
        here = (status.st_dev, status.st_ino)
        if here in parents:
            return
        with os.scandir(root / below) as entries:
            for entry in entries:
                name = f"{below}/{entry.name}" if below else entry.name
                if not entry.is_dir():
                    # A link to nowhere is listed, so that reading it reports it; pipes and sockets would block.
                    if entry.is_file() or entry.is_symlink():
                        yield name
                elif not entry.name.startswith("."):
                    yield from _walk(root, name, (*parents, here))
    except OSError as error:
        raise DataError(f"cannot list {error.filename}: {error.strerror}; make it readable or move it away") from None


def _kind(file: str) -> str:
    path = PurePosixPath(file)
    return "hidden" if path.name.startswith(".") else path.suffix.lower() or "without suffix"
