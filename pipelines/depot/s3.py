"""A depot on S3 or a server that speaks its language.

An object is there when its last byte is, so a put that is broken off leaves nothing under a name. Large files travel in
parts, some at once; what a killed process has put of them costs room until the bucket's rule for unfinished uploads
removes it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from pipelines.depot.depot import Stored, damaged, missing, note_name, object_name
from pipelines.depot.local import changed
from pipelines.depot.stream import Hashed, appearing, describe, disk_errors
from pipelines.errors import StoreError
from pipelines.runs.manifest import FileEntry
from pipelines.runs.s3_client import client, is_changed, is_missing, s3_errors, status
from pipelines.runs.s3_read import read

PART = 16 << 20
"""Bytes; larger files travel in parts of this size."""
_PARTS_AT_ONCE = 4
_READS = 3


@dataclass(frozen=True)
class S3Depot:
    """A `Depot` below s3://bucket/prefix."""

    uri: str
    """Credentials come from the environment and are never a part of it."""

    def has(self, entry: FileEntry) -> bool:
        """By the length that the server tells."""
        with s3_errors(f"{self._where(object_name(entry))} could not be looked for"):
            head = self._head(object_name(entry))
        return head is not None and head["ContentLength"] == entry.size

    def put(self, path: Path, entry: FileEntry) -> None:
        """Hashed on the way; the server compares each part with a hash of its own, if it can."""
        if self.has(entry):
            return
        key = object_name(entry)
        with disk_errors(f"{path} could not be read"), path.open("rb") as file:
            passing = Hashed(file)
            with s3_errors(f"{self._where(key)} could not be written"):
                client().upload_fileobj(
                    passing, **self._at(key), ExtraArgs={"ChecksumAlgorithm": "SHA256"}, Config=_transfer()
                )
        if passing.entry != entry:
            with s3_errors(f"{self._where(key)} could not be removed"):
                client().delete_object(**self._at(key))
            raise changed(path, passing.entry, entry)

    def fetch(self, entry: FileEntry, target: Path) -> None:
        """In parts, which are written and hashed in their order."""
        key = object_name(entry)
        failed = f"{self._where(key)} could not be copied to {target}"
        with disk_errors(failed), appearing(target) as building:
            with building.open("xb") as file, self._reading(key, failed):
                passing = Hashed(file)
                client().download_fileobj(Fileobj=passing, **self._at(key), Config=_transfer())
            if passing.entry != entry:
                raise damaged(self._where(key), describe(passing.entry), describe(entry))

    def discard(self, entry: FileEntry) -> None:
        """It is deleted."""
        self.remove(object_name(entry))

    def part(self, entry: FileEntry, start: int, length: int) -> bytes:
        """A request for a range."""
        key, asked = object_name(entry), f"bytes={start}-{start + length - 1}"
        where = self._where(key)
        with self._reading(key, f"{where} could not be read"):
            content = _whole(lambda: _range(self._at(key), asked))
        if len(content) != length:
            raise damaged(where, f"{len(content)} bytes from {start} on", f"at least {length} there")
        return content

    def note(self, name: str, content: bytes, *, new: bool = False) -> bool:
        """One request. An answer may be lost and the put be repeated, so each has a mark to know its own by."""
        from botocore.exceptions import ClientError

        key, mark = note_name(name), secrets.token_hex(8)
        condition = {"IfNoneMatch": "*"} if new else {}
        with s3_errors(f"{self._where(key)} could not be written"):
            try:
                client().put_object(**self._at(key), Body=content, Metadata={"mark": mark}, **condition)
            except ClientError as error:
                if not (new and is_changed(error) and (there := self._head(key))):
                    raise
                return bool(there["Metadata"].get("mark") == mark)
        return True

    def noted(self, name: str) -> bytes | None:
        """The object's content."""
        bucket, key = self._at(note_name(name)).values()
        absent = _Absent()
        try:
            with s3_errors(f"{self._where(note_name(name))} could not be read"):
                return read(bucket, key, absent)
        except _Absent:
            return None

    def notes(self, prefix: str) -> list[str]:
        """A listing."""
        return sorted(name.removeprefix("notes/") for name in self.stored(f"notes/{prefix}"))

    def stored(self, prefix: str) -> dict[str, Stored]:
        """A listing."""
        found, bucket, key = {}, *self._at(prefix).values()
        before = len(key) - len(prefix)
        with s3_errors(f"{self._where(prefix)} could not be listed"):
            for page in client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key):
                for each in page.get("Contents", []):
                    found[each["Key"][before:]] = Stored(each["Size"], each["LastModified"].timestamp())
        return found

    def remove(self, name: str) -> None:
        """A bucket that keeps versions has it still."""
        with s3_errors(f"{self._where(name)} could not be deleted"):
            client().delete_object(**self._at(name))

    def _where(self, name: str) -> str:
        return f"{self.uri}/{name}"

    def _at(self, name: str) -> dict[str, str]:
        bucket, _, prefix = self.uri.removeprefix("s3://").partition("/")
        return {"Bucket": bucket, "Key": f"{prefix}/{name}" if prefix else name}

    def _head(self, key: str) -> Any | None:
        from botocore.exceptions import ClientError

        try:
            return client().head_object(**self._at(key))
        except ClientError as error:
            if is_missing(error):
                return None
            raise

    @contextmanager
    def _reading(self, key: str, failed: str) -> Iterator[None]:
        """Errors while an object is read."""
        from botocore.exceptions import ClientError, ConnectionClosedError
        from s3transfer.exceptions import RetriesExceededError

        with s3_errors(failed):
            try:
                yield
            except ClientError as error:
                if is_missing(error):
                    raise missing(self._where(key)) from None
                raise
            except RetriesExceededError:  # the only one of boto3's that is not of its family
                raise ConnectionClosedError(endpoint_url="") from None


class _Absent(StoreError):
    """There is no such note."""


def _range(where: dict[str, str], asked: str) -> bytes:
    """The bytes asked for; none where the object ends before."""
    from botocore.exceptions import ClientError

    try:
        content: bytes = client().get_object(**where, Range=asked)["Body"].read()
    except ClientError as error:
        if status(error) == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return b""
        raise
    return content


def _whole(read: Callable[[], bytes]) -> bytes:
    """boto3 repeats a request, but not the reading of its answer."""
    from botocore.exceptions import BotoCoreError

    for _ in range(_READS - 1):
        with suppress(BotoCoreError):
            return read()
    return read()


def _transfer() -> Any:
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(
        multipart_threshold=PART,
        multipart_chunksize=PART,
        max_concurrency=_PARTS_AT_ONCE,
        preferred_transfer_client="classic",
    )
