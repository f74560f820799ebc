"""What makes a folder committed: a manifest with the size and SHA-256 of every file, and files that match it.

Reading depends on the manifest alone, never on how the folder came to its name. So a store that cannot rename (S3)
keeps the same promise as `commit.py` by writing the manifest last.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

from pipelines.errors import CheckpointError
from pipelines.runs.digest import digest, sha256_hex

MANIFEST = "manifest.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class FileEntry:
    """What a file must be."""

    size: int
    """Bytes."""
    sha256: str
    """Of its content, hexadecimal."""


@dataclass(frozen=True)
class Manifest:
    """What a committed folder holds."""

    facts: dict[str, Any]
    """JSON values that say what the folder is."""
    files: Mapping[str, FileEntry]
    """Every file but the manifest, by name."""

    def encode(self) -> bytes:
        """The manifest's only spelling, with its own digest inside: no byte of it can change unnoticed."""
        files = {name: asdict(entry) for name, entry in self.files.items()}
        content = {"format_version": FORMAT_VERSION, "facts": self.facts, "files": files}
        return (json.dumps({**content, "digest": digest(content)}, indent=2, sort_keys=True) + "\n").encode()

    @staticmethod
    def decode(content: bytes) -> Manifest:
        """The manifest in `content`.

        Raises:
            CheckpointError: it is damaged, or of another version of this format.
        """
        try:
            values = json.loads(content)
            version = values["format_version"]
            if version != FORMAT_VERSION:
                raise CheckpointError(f"{MANIFEST} has format version {version!r}; this code reads {FORMAT_VERSION}")
            manifest = Manifest(values["facts"], {name: FileEntry(**entry) for name, entry in values["files"].items()})
            whole = manifest.encode() == content
        except (ValueError, TypeError, KeyError, AttributeError):
            raise CheckpointError(f"{MANIFEST} is damaged: it is not the JSON it was written as") from None
        if not whole or any(Path(name).name != name for name in manifest.files):
            raise CheckpointError(f"{MANIFEST} is damaged: it does not match its own digest")
        return manifest


def verify(folder: Path) -> Manifest:
    """The manifest of `folder`, after every file was read and compared with it.

    Raises:
        CheckpointError: the manifest or a file is missing or damaged. The message leaves the folder to the caller.
    """
    with _reading(MANIFEST, "it was never committed"):
        manifest = Manifest.decode((folder / MANIFEST).read_bytes())
    for name, entry in manifest.files.items():
        with _reading(name), (folder / name).open("rb") as file:
            _compare(name, entry, os.fstat(file.fileno()).st_size, file_digest(file, "sha256").hexdigest())
    return manifest


def read_file(folder: Path, name: str, entry: FileEntry) -> bytes:
    """The content of a file, compared with its entry: the bytes returned are the bytes that were hashed.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    with _reading(name):
        content = (folder / name).read_bytes()
    _compare(name, entry, len(content), sha256_hex(content))
    return content


def _compare(name: str, entry: FileEntry, size: int, sha256: str) -> None:
    if size != entry.size:
        raise CheckpointError(f"{name} has {size} bytes, the manifest says {entry.size}")
    if sha256 != entry.sha256:
        raise CheckpointError(
            f"{name} is damaged: its SHA-256 is {sha256[:12]}.., the manifest says {entry.sha256[:12]}.."
        )


@contextmanager
def _reading(name: str, absence: str = "it was deleted") -> Iterator[None]:
    """File system errors as CheckpointError."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{name} is missing: {absence}") from None
    except OSError as error:
        raise CheckpointError(f"{name} cannot be read: {error.strerror}") from error
