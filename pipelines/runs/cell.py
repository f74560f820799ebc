"""One small object on S3 that is only ever written by whoever knows what it holds: compare and set.

It needs two things of the server: `If-None-Match: *` on a put (only where there is no object), and `If-Match: ETAG` on
a put (only while the object is still that one). AWS, MinIO, R2 and moto have them. Nothing is deleted, because few
servers can delete on a condition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.errors import StoreError
from pipelines.runs.s3_client import Patience, client, is_changed, is_missing, s3_errors


@dataclass(frozen=True)
class Seen:
    """What the object was when it was read."""

    content: bytes
    etag: str
    """Differs for other content."""


@dataclass(frozen=True)
class Cell:
    """The object. Its requests are short, because their answers soon mean nothing any more."""

    bucket: str
    key: str
    ttl_s: float
    """How long what is read or written stays of use, in seconds."""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def read(self) -> Seen | None:
        """What it is; None if it is not there."""
        from botocore.exceptions import ClientError

        with s3_errors(f"{self} could not be read"):
            try:
                answer = self._client.get_object(Bucket=self.bucket, Key=self.key)
                return Seen(answer["Body"].read(), answer["ETag"])
            except ClientError as error:
                if is_missing(error):
                    return None
                raise

    def create(self, content: bytes) -> str | None:
        """Put it where there is none; its ETag, or None if there is one."""
        return self._put(content, IfNoneMatch="*")

    def replace(self, content: bytes, etag: str) -> str | None:
        """Put it where it is still the one with `etag`; the new ETag, or None if it is another or gone."""
        return self._put(content, IfMatch=etag)

    def check_server(self, content: bytes) -> None:
        """Refuse a server that ignores conditions. To be called by the one who has just put `content`.

        Raises:
            StoreError: it does.
        """
        if self.create(content) or self.replace(content, '"00000000000000000000000000000000"'):
            raise StoreError(
                f"the server of {self} ignores conditions on a put (If-None-Match, If-Match), without which two "
                "trainers of one run cannot be kept apart. Set storage.uri to another server or to a shared folder"
            )

    def _put(self, content: bytes, **condition: str) -> str | None:
        from botocore.exceptions import ClientError

        with s3_errors(f"{self} could not be written"):
            try:
                return str(self._client.put_object(Bucket=self.bucket, Key=self.key, Body=content, **condition)["ETag"])
            except ClientError as error:
                if is_changed(error) or is_missing(error):
                    return None
                raise

    @property
    def _client(self) -> Any:
        wait_s = max(1.0, self.ttl_s / 8)
        return client(Patience(wait_s, wait_s, attempts=2))
