"""From `storage.uri` to a run's place."""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.errors import ParamsError
from pipelines.project import state
from pipelines.runs.local import LocalStore
from pipelines.runs.s3 import S3Store
from pipelines.runs.store import Store
from pipelines.settings import Settings

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_S3 = re.compile(r"s3://[A-Za-z0-9._-]{3,255}(/[^/?#@\s]+)*/?")


def run_store(settings: Settings, key: str) -> Store:
    """Where the run `key` keeps its checkpoints.

    Raises:
        ParamsError: storage.uri is neither a folder nor s3://bucket/prefix.
    """
    return store_at(str(place_of(settings)), key)


def place_of(settings: Settings) -> Path | str:
    """Where all runs are, as `place_at`.

    Raises:
        ParamsError: storage.uri is neither a folder nor s3://bucket/prefix.
    """
    return place_at(settings.storage.uri or str(state() / "runs"))


def store_at(uri: str, key: str) -> Store:
    """The place of the run `key` among the runs in `uri`: a folder, or s3://bucket/prefix.

    Raises:
        ParamsError: it is neither.
    """
    place = place_at(uri)
    return LocalStore(place / key) if isinstance(place, Path) else S3Store(f"{place}/{key}")


def place_at(uri: str) -> Path | str:
    """A folder as its path, and s3://bucket/prefix without a slash at its end.

    Raises:
        ParamsError: it is neither. The message leaves out what follows the scheme: it may hold a password.
    """
    scheme = _SCHEME.match(uri)
    if scheme is None:
        return Path(uri).expanduser().resolve()
    if scheme[1] != "s3":
        raise ParamsError(
            f"storage.uri must be a folder that all workers see or s3://bucket/prefix, got one that begins with "
            f"{scheme[1]}://"
        )
    if not _S3.fullmatch(uri):
        raise ParamsError(
            "storage.uri must be s3://bucket/prefix and nothing else: the server and the credentials are read from "
            "AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or from AWS_PROFILE"
        )
    return uri.rstrip("/")
