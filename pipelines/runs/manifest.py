"""What makes a checkpoint committed: a manifest with the size and SHA-256 of every file, and files that match it.

Reading depends on the manifest alone, never on how the files came to their names. So a store that cannot rename (S3)
keeps the same promise as `commit.py` by writing the manifest last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import CheckpointError
from pipelines.runs.digest import digest, sha256_hex

if TYPE_CHECKING:
    from pipelines.runs.store import Store

MANIFEST = "manifest.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class FileEntry:
    """What a file must be."""

    size: int
    """Bytes."""
    sha256: str
    """Of its content, hexadecimal."""

    @classmethod
    def of(cls, content: bytes) -> FileEntry:
        """What a file with this content must be."""
        return cls(len(content), sha256_hex(content))


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint holds."""

    facts: dict[str, Any]
    """JSON values that say what the checkpoint is."""
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


def verify(store: Store, name: str) -> Manifest:
    """The manifest of the checkpoint `name`, after every file was read and compared with it.

    Raises:
        CheckpointError: the manifest or a file is missing or damaged. The message leaves the checkpoint to the caller.
    """
    manifest = Manifest.decode(store.read(name, MANIFEST))
    for file, entry in manifest.files.items():
        _compare(file, entry, store.measure(name, file))
    return manifest


def read_file(store: Store, name: str, file: str, entry: FileEntry) -> bytes:
    """The content of a file, compared with its entry: the bytes returned are the bytes that were hashed.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    content = store.read(name, file)
    _compare(file, entry, FileEntry.of(content))
    return content


def missing(file: str) -> CheckpointError:
    """The error for a file that is not there."""
    return CheckpointError(f"{file} is missing: {'it was never committed' if file == MANIFEST else 'it was deleted'}")


def _compare(file: str, wanted: FileEntry, found: FileEntry) -> None:
    if found.size != wanted.size:
        raise CheckpointError(f"{file} has {found.size} bytes, the manifest says {wanted.size}")
    if found.sha256 != wanted.sha256:
        raise CheckpointError(
            f"{file} is damaged: its SHA-256 is {found.sha256[:12]}.., the manifest says {wanted.sha256[:12]}.."
        )
