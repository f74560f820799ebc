"""What a folder holds, as one small value with one digest."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import file_digest
from pathlib import Path, PurePosixPath

from pipelines.errors import DataError
from pipelines.runs.canonical import canonical_json
from pipelines.runs.digest import sha256_hex
from pipelines.runs.manifest import FileEntry

FORMAT_VERSION = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Tree:
    """The files of a folder. Neither modes, times nor empty folders are part of it.

    Raises:
        DataError: a name would lead out of the folder, or is a file and a folder at once; an entry is none.
    """

    files: Mapping[str, FileEntry]
    """Every file, by its path below the folder, written with `/`."""

    def __post_init__(self) -> None:
        for name, entry in self.files.items():
            check_name(name)
            if any(str(above) in self.files for above in PurePosixPath(name).parents):
                raise DataError(f"a folder's manifest is damaged: {name!r} lies below a file")
            if not isinstance(entry.size, int) or entry.size < 0 or not _SHA256.fullmatch(entry.sha256):
                raise DataError(f"a folder's manifest is damaged: {name!r} has no size and SHA-256, got {entry}")

    def encode(self) -> bytes:
        """The tree's only spelling."""
        files = {name: asdict(entry) for name, entry in self.files.items()}
        return canonical_json({"format_version": FORMAT_VERSION, "files": files}).encode()

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of `encode()`: equal folders have equal digests."""
        return sha256_hex(self.encode())

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files.values())

    @staticmethod
    def decode(content: bytes) -> Tree:
        """The tree in `content`.

        Raises:
            DataError: it is damaged, or of another version of this format.
        """
        try:
            values = json.loads(content)
            version = values["format_version"]
            if version != FORMAT_VERSION:
                raise DataError(f"a folder's manifest has format version {version!r}; this code reads {FORMAT_VERSION}")
            return Tree({name: FileEntry(**entry) for name, entry in values["files"].items()})
        except (ValueError, TypeError, KeyError, AttributeError):
            raise DataError("a folder's manifest is damaged: it is not the JSON it was written as") from None


def tree_of(folder: Path, names: Iterable[str] | None = None) -> Tree:
    """The files below `folder`, or only those named; each is read to its end.

    Raises:
        DataError: a file is missing or no plain one, a folder is a link, or a name leads out of the folder. A file may
            be a link, as DVC makes them where its `cache.type` is so; what it leads to is read.
    """
    chosen = sorted(_below(folder)) if names is None else sorted(set(names))
    return Tree({name: measure(plain_file(folder, name)) for name in chosen})


def measure(path: Path) -> FileEntry:
    """Size and SHA-256 of a file as it is."""
    with path.open("rb") as content:
        return FileEntry(os.fstat(content.fileno()).st_size, file_digest(content, "sha256").hexdigest())


def plain_file(folder: Path, name: str) -> Path:
    """The path of the file `name` of a folder.

    Raises:
        DataError: as for `tree_of`.
    """
    check_name(name)
    path = folder / name
    for part in (path, *path.parents[: name.count("/")]):
        if part.is_symlink() and not part.is_file():
            raise DataError(
                f"{part} is a link, and of these only those to files are followed: put what it leads to there"
            )
    if not path.is_file():
        raise DataError(f"{path} is {'no plain file' if path.exists() else 'missing'}; only plain files can be stored")
    return path


def check_name(name: str) -> None:
    """Refuse what is no path below a folder.

    Raises:
        DataError: as it says.
    """
    if not name or "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise DataError(f"{name!r} is no name of a file below a folder: give it as a/b, without `..`")


def _below(folder: Path) -> Iterable[str]:
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder")
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():  # a linked folder is refused by its name
            yield path.relative_to(folder).as_posix()
