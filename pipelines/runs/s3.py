"""A run on S3 or a server that speaks its language: every checkpoint is a prefix below the run's.

There is no renaming. The files are put one after the other, the manifest after them: the manifest is the commit, and a
prefix without one is not there. What is removed or replaced loses its manifest first. The manifest holds the SHA-256 of
every file and reading compares what it has read, so files of two saves under one prefix never pass for a checkpoint.

Of the server this needs what all of them have, and conditional puts: the manifest is put only where there is none
(If-None-Match), and the locks are leases (`lease.py`). AWS has them since 2024.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any

from pipelines.errors import CheckpointError, StoreError
from pipelines.runs.cell import Cell
from pipelines.runs.holder import Lock
from pipelines.runs.layout import folder_named
from pipelines.runs.lease import TTL_S, hold, refuse_if_lost
from pipelines.runs.manifest import MANIFEST, FileEntry, Manifest, missing
from pipelines.runs.s3_client import client, is_changed, is_missing, s3_errors
from pipelines.runs.s3_read import measure, read

PART = 64 << 20
"""Bytes; larger files are put in parts of this size."""
_PARTS_AT_ONCE = 4

_saving: set[str] = set()
"""Where this process is saving now, perhaps in another thread."""


@dataclass(frozen=True)
class S3Store:
    """A `Store` below s3://bucket/prefix."""

    uri: str
    """Of the run. Credentials come from the environment and are never a part of it."""

    def __str__(self) -> str:
        return self.uri

    def place(self, name: str) -> str:
        """The checkpoint's address."""
        return f"{self.uri}/{name}"

    def names(self) -> list[str]:
        """The prefixes with a manifest."""
        return [name for name, files in self._listing().items() if MANIFEST in files]

    def read(self, name: str, file: str) -> bytes:
        """The file's content."""
        with s3_errors(f"{self.place(name)}/{file} could not be read"):
            return read(self._bucket, self._key(name, file), missing(file))

    def measure(self, name: str, file: str) -> FileEntry:
        """The file's size and digest."""
        with s3_errors(f"{self.place(name)}/{file} could not be read"):
            return measure(self._bucket, self._key(name, file), missing(file))

    def begin(self, name: str) -> None:
        """Remove leftovers; a bucket's prefixes need no making."""
        refuse_if_lost(self.uri)
        self.sweep()

    def commit(self, name: str, files: Iterable[tuple[str, bytes]], facts: dict[str, Any]) -> None:
        """The files, then the manifest."""
        refuse_if_lost(self.uri)
        _saving.add(self.place(name))
        try:
            self.remove(name)
            entries = {file: self._put(name, file, content) for file, content in files}
            self._put_manifest(name, Manifest(facts, entries).encode())
        finally:
            _saving.discard(self.place(name))

    def note(self, name: str, content: bytes) -> None:
        """A plain object."""
        refuse_if_lost(self.uri)
        with s3_errors(f"{self.place(name)} could not be written"):
            client().put_object(Bucket=self._bucket, Key=self._key(name), Body=content)

    def remove(self, name: str) -> None:
        """The manifest first: without it the rest is not there."""
        with s3_errors(f"{self.place(name)} could not be removed"):
            for file in sorted(self._listing().get(name, []), key=lambda file: file != MANIFEST):
                refuse_if_lost(self.uri)
                client().delete_object(Bucket=self._bucket, Key=self._key(name, file))

    def sweep(self) -> None:
        """Remove prefixes of checkpoints without a manifest, and files of which only parts were put."""
        for name, files in self._listing().items():
            if MANIFEST not in files and folder_named(name) and self.place(name) not in _saving:
                self.remove(name)
        self._sweep_parts()

    def free(self) -> int | None:
        """A bucket does not tell."""
        return None

    def saved_at(self, name: str) -> int:
        """The server's time of the manifest, to the second."""
        from botocore.exceptions import ClientError

        with s3_errors(f"{self.place(name)} could not be read"):
            try:
                head = client().head_object(Bucket=self._bucket, Key=self._key(name, MANIFEST))
            except ClientError as error:
                if is_missing(error):
                    return 0
                raise
        return int(head["LastModified"].timestamp()) * 10**9

    def lock(self, lock: Lock, wait_s: float, ttl_s: float = TTL_S) -> AbstractContextManager[None]:
        """A lease that counts as given up when it was not renewed for `ttl_s` seconds, see `lease.py`."""
        return hold(Cell(self._bucket, self._key(lock.file), ttl_s), lock, self.uri, wait_s)

    @property
    def _bucket(self) -> str:
        return self.uri.removeprefix("s3://").partition("/")[0]

    def _key(self, *names: str) -> str:
        return "/".join([self.uri.removeprefix("s3://").partition("/")[2], *names])

    def _listing(self) -> dict[str, list[str]]:
        """The files that are there, by the name of their checkpoint."""
        found: dict[str, list[str]] = {}
        with s3_errors(f"{self} could not be listed"):
            pages = client().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._key("")):
                for each in page.get("Contents", []):
                    name, slash, file = each["Key"].removeprefix(self._key("")).partition("/")
                    if slash:
                        found.setdefault(name, []).append(file)
        return found

    def _put(self, name: str, file: str, content: bytes) -> FileEntry:
        """One file. The server compares it with the digest that it is sent with, if it can."""
        from boto3.s3.transfer import TransferConfig

        entry, key = FileEntry.of(content), self._key(name, file)
        refuse_if_lost(self.uri)
        with s3_errors(f"{self.place(name)} could not be written"):
            if len(content) <= PART:
                client().put_object(Bucket=self._bucket, Key=key, Body=content, ChecksumSHA256=_base64(entry))
            else:
                client().upload_fileobj(
                    io.BytesIO(content),
                    self._bucket,
                    key,
                    ExtraArgs={"ChecksumAlgorithm": "SHA256"},
                    Config=TransferConfig(
                        multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=_PARTS_AT_ONCE
                    ),
                )
        return entry

    def _put_manifest(self, name: str, content: bytes) -> None:
        """The commit. An answer may be lost and the put be repeated, so one that is there already may be ours."""
        from botocore.exceptions import ClientError

        refuse_if_lost(self.uri)
        with s3_errors(f"{self.place(name)} could not be committed"):
            try:
                client().put_object(
                    Bucket=self._bucket,
                    Key=self._key(name, MANIFEST),
                    Body=content,
                    ChecksumSHA256=_base64(FileEntry.of(content)),
                    IfNoneMatch="*",
                )
            except ClientError as error:
                if not is_changed(error):
                    raise
                self._refuse_others(name, content)

    def _refuse_others(self, name: str, ours: bytes) -> None:
        try:
            if self.read(name, MANIFEST) == ours:
                return
        except StoreError:
            raise
        except CheckpointError:  # it is gone again
            pass
        raise StoreError(
            f"{self.place(name)} could not be committed: another process was writing it. Stop that one, then run the "
            "stage again to go on from the newest checkpoint"
        )

    def _sweep_parts(self) -> None:
        """Give up unfinished uploads in parts. A server that does not let us see or end them keeps them."""
        from botocore.exceptions import ClientError

        with s3_errors(f"{self} could not be swept"), suppress(ClientError):
            there = client().list_multipart_uploads(Bucket=self._bucket, Prefix=self._key(""))
            for each in there.get("Uploads", []):
                name = each["Key"].removeprefix(self._key("")).partition("/")[0]
                if self.place(name) not in _saving:
                    refuse_if_lost(self.uri)
                    client().abort_multipart_upload(Bucket=self._bucket, Key=each["Key"], UploadId=each["UploadId"])


def _base64(entry: FileEntry) -> str:
    return base64.b64encode(bytes.fromhex(entry.sha256)).decode()
