"""Talking to an S3 server: bounded in time, and with errors that a person can act on and that hold no secrets.

Where the server is and who we are comes from the environment, as for every other program: AWS_ENDPOINT_URL,
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, AWS_REGION and so on.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from pipelines.errors import StoreError

_CHANGED = {409, 412}
"""The answer to a conditional request: the object is not as the condition says, or is being changed now."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for one request; together at most attempts * (connect_s + read_s) and some seconds between."""

    connect_s: float = 5
    """For a connection."""
    read_s: float = 20
    """Without a byte from the server."""
    attempts: int = 5
    """Counting the first."""


_making = threading.Lock()
_importing = threading.Lock()

PATIENCE = Patience()
"""With requests for checkpoints."""


def client(patience: Patience | None = None) -> Any:
    """This process's client, made when it is first asked for. Threads share it; a forked copy makes its own."""
    return _client(patience or PATIENCE, os.getpid(), _endpoint())


@cache
def _client(patience: Patience, process: int, endpoint: str | None) -> Any:
    from botocore.config import Config

    config = Config(
        connect_timeout=patience.connect_s,
        read_timeout=patience.read_s,
        retries={"mode": "standard", "total_max_attempts": patience.attempts},
        request_checksum_calculation="when_required",  # what is written carries the SHA-256 of its manifest
        response_checksum_validation="when_required",  # what is read is compared with the manifest, and damage skipped
        s3={"addressing_style": "path"} if endpoint else None,  # bucket.host:9000 has no address
    )
    with s3_errors("the S3 client could not be made"), _making:
        try:
            return _session().client("s3", config=config)
        except ValueError:  # the text repeats the address
            raise StoreError("AWS_ENDPOINT_URL is not an address: give http://host:port or https://host") from None


@cache
def _session() -> Any:
    """What takes long: the description of all of S3, and where the credentials are."""
    _import_boto3()
    from boto3.session import Session

    return Session()


def _import_boto3() -> None:
    """All of it, by one thread: its modules import each other, and a second thread could meet a part of one."""
    with _importing:
        import boto3  # noqa: F401


@contextmanager
def s3_errors(failed: str) -> Iterator[None]:
    """Errors of boto3 as StoreError; `failed` says what could not be done, and to what.

    The text of the original error is left out, and so is the error itself: addresses and answers may hold credentials.
    """
    _import_boto3()
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise StoreError(f"{failed}: {_answer(error)}") from None
    except (BotoCoreError, Boto3Error) as error:
        raise StoreError(f"{failed}: {_silence(error)}") from None


def status(error: Any) -> int:
    """The HTTP status of a ClientError."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_missing(error: Any) -> bool:
    """Whether a ClientError says that there is no such object (and not that there is no such bucket)."""
    return status(error) == 404 and code(error) != "NoSuchBucket"


def is_changed(error: Any) -> bool:
    """Whether a ClientError says that a condition does not hold."""
    return status(error) in _CHANGED


def code(error: Any) -> str:
    """S3's word for a ClientError, without anything that is not a word."""
    return re.sub(r"[^A-Za-z0-9.]", "", str(error.response.get("Error", {}).get("Code", "")))[:60]


def _answer(error: Any) -> str:
    said = f"{_server()} answered {status(error)} {code(error)} to {error.operation_name}"
    if code(error) == "NoSuchBucket":
        return f"{said}. Create the bucket, or correct storage.uri in infra/cluster.yaml"
    if status(error) in (401, 403):
        return f"{said}. Check the credentials (AWS_ACCESS_KEY_ID or AWS_PROFILE) and what they may do in this bucket"
    if status(error) == 501:
        return f"{said}: it lacks what is needed here. Set storage.uri to another server or to a shared folder"
    return f"{said}. {_LATER}"


def _silence(error: Exception) -> str:
    kind = type(error).__name__
    if kind in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"):
        return (
            f"no credentials for {_server()} ({kind}). Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE,"
            " where the workers run"
        )
    return f"{_server()} did not answer in time or broke off ({kind}). Check AWS_ENDPOINT_URL and the network. {_LATER}"


_LATER = "Committed checkpoints are as they were; run the stage again to go on from the newest"


def _server() -> str:
    """The server's address without a name or password in it."""
    if not (endpoint := _endpoint()):
        return "S3"
    parts = urlsplit(endpoint)
    return f"S3 at {parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _endpoint() -> str | None:
    """The server's address as boto3 finds it; None: AWS, or what a profile says."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
