"""A depot in a folder of a file system that all machines see."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipelines.depot.depot import Stored, damaged, missing, note_name, object_name
from pipelines.depot.stream import LEFTOVER, Hashed, appearing, beside, copy, describe, disk_errors, sync
from pipelines.errors import DataError
from pipelines.runs.commit import make_folder
from pipelines.runs.manifest import FileEntry

_DAY_S = 24 * 3600.0
_ABSENT = (FileNotFoundError, NotADirectoryError)


@dataclass(frozen=True)
class LocalDepot:
    """A `Depot` in a folder. Files are written beside their name and renamed."""

    folder: Path
    """It may not exist yet."""

    @property
    def uri(self) -> str:
        """The folder."""
        return str(self.folder)

    def has(self, entry: FileEntry) -> bool:
        """By the size of the file."""
        path = self._path(entry)
        with disk_errors(f"{path} could not be looked for"):
            try:
                return path.stat().st_size == entry.size
            except _ABSENT:
                return False

    def put(self, path: Path, entry: FileEntry) -> None:
        """A copy, hashed on the way."""
        if self.has(entry):
            return
        there = self._path(entry)
        with disk_errors(f"{path} could not be copied to {there}"):
            there.parent.mkdir(parents=True, exist_ok=True)
            _sweep(there.parent)
            with appearing(there) as building:
                found = _copy(path, building)
                if found != entry:
                    raise changed(path, found, entry)

    def fetch(self, entry: FileEntry, target: Path) -> None:
        """A copy, hashed on the way."""
        with self._reading(entry, f"copied to {target}") as there, appearing(target) as building:
            found = _copy(there, building)
            if found != entry:
                raise damaged(str(there), describe(found), describe(entry))

    def discard(self, entry: FileEntry) -> None:
        """It stays beside its place, to be looked at."""
        path = self._path(entry)
        with disk_errors(f"{path} could not be set aside"), suppress(*_ABSENT):
            path.rename(path.with_suffix(".damaged"))

    def part(self, entry: FileEntry, start: int, length: int) -> bytes:
        """Read where it lies."""
        with self._reading(entry, "read") as there, there.open("rb") as file:
            content = os.pread(file.fileno(), length, start)
        if len(content) != length:
            raise damaged(str(there), f"{len(content)} bytes from {start} on", f"at least {length} there")
        return content

    def note(self, name: str, content: bytes, *, new: bool = False) -> bool:
        """Written beside its name, then renamed, or linked where it must be new."""
        path = self.folder / note_name(name)
        with disk_errors(f"{path} could not be written"):
            make_folder(path.parent)
            with beside(path) as building:
                building.write_bytes(content)
                sync(building)  # an empty file would claim the name for ever
                written = _link(building, path) if new else bool(building.replace(path))
            sync(path.parent)
        return written

    def noted(self, name: str) -> bytes | None:
        """The file's content."""
        path = self.folder / note_name(name)
        with disk_errors(f"{path} could not be read"):
            try:
                return path.read_bytes()
            except _ABSENT:
                return None

    def notes(self, prefix: str) -> list[str]:
        """The names of files."""
        return sorted(name.removeprefix("notes/") for name in self.stored(f"notes/{prefix}"))

    def stored(self, prefix: str) -> dict[str, Stored]:
        """Files that are whole. Nothing beside the prefix is looked at: there may be many."""
        folder, _, begin = prefix.rpartition("/")
        found = {}
        with disk_errors(f"{self.folder / folder} could not be listed"), suppress(*_ABSENT):
            for top in (path for path in (self.folder / folder).iterdir() if path.name.startswith(begin)):
                for path in (top, *top.rglob("*")):
                    with suppress(FileNotFoundError):  # removed meanwhile
                        status = path.stat()
                        if path.is_file() and not path.name.endswith(LEFTOVER):
                            found[path.relative_to(self.folder).as_posix()] = Stored(status.st_size, status.st_mtime)
        return found

    def remove(self, name: str) -> None:
        """Its file."""
        path = self.folder / name
        with disk_errors(f"{path} could not be deleted"):
            path.unlink(missing_ok=True)

    def _path(self, entry: FileEntry) -> Path:
        return self.folder / object_name(entry)

    @contextmanager
    def _reading(self, entry: FileEntry, done: str) -> Iterator[Path]:
        path = self._path(entry)
        with disk_errors(f"{path} could not be {done}"):
            if not path.exists():
                raise missing(str(path))
            yield path


def changed(path: Path, found: FileEntry, entry: FileEntry) -> DataError:
    """The error for a file that is another one than it was."""
    return DataError(
        f"{path} has changed: it has {describe(found)}, and was to be stored as {describe(entry)}. Let nothing write "
        "to it, and try again"
    )


def _copy(source: Path, target: Path) -> FileEntry:
    with source.open("rb") as reading, target.open("xb") as writing:
        passing = Hashed(reading)
        copy(passing, writing)
    return passing.entry


def _link(building: Path, path: Path) -> bool:
    try:
        path.hardlink_to(building)
    except FileExistsError:
        return False
    return True


def _sweep(folder: Path) -> None:
    """Remove what killed processes left a day ago or earlier."""
    for path in folder.glob(f".*{LEFTOVER}"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _DAY_S:
                path.unlink()
