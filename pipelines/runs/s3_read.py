"""Reading an object of S3 to its end, on from where the server broke off."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from typing import Any

from pipelines.errors import CheckpointError
from pipelines.runs.manifest import FileEntry
from pipelines.runs.s3_client import client, is_missing

_CHUNK = 1 << 20
_READS = 3
"""How often an object is read on; boto3 repeats a request, but not the reading of its answer."""


def read(bucket: str, key: str, absent: CheckpointError) -> bytes:
    """The content; `absent` is raised where there is no such object, else what boto3 raises."""
    content = io.BytesIO()
    for chunk in _chunks(bucket, key, absent):
        content.write(chunk)
    return content.getvalue()


def measure(bucket: str, key: str, absent: CheckpointError) -> FileEntry:
    """Size and digest of the content, which is not held in memory; errors as for `read`."""
    size, digest = 0, sha256()
    for chunk in _chunks(bucket, key, absent):
        size += len(chunk)
        digest.update(chunk)
    return FileEntry(size, digest.hexdigest())


def _chunks(bucket: str, key: str, absent: CheckpointError) -> Iterator[bytes]:
    from botocore.exceptions import BotoCoreError

    done, more = 0, dict[str, Any]()
    for left in reversed(range(_READS)):
        answer = _get(bucket, key, absent, **more)
        try:
            with closing(answer["Body"]) as body:
                for chunk in body.iter_chunks(_CHUNK):
                    done += len(chunk)
                    yield chunk
            return
        except BotoCoreError:
            if not left:
                raise
        more = {"Range": f"bytes={done}-", "IfMatch": answer["ETag"]} if done else {}


def _get(bucket: str, key: str, absent: CheckpointError, **more: str) -> Any:
    from botocore.exceptions import ClientError

    try:
        return client().get_object(Bucket=bucket, Key=key, **more)
    except ClientError as error:
        if is_missing(error):
            raise absent from None
        raise
