"""Limits of this process, for real: what the system refuses beyond them, it refuses in the middle of it."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def file_size(most: int) -> Iterator[None]:
    """A write goes as far as this many bytes in its file, and the next is an OSError (EFBIG), as on a full disk."""
    with _limit(resource.RLIMIT_FSIZE, most):
        yield


@contextmanager
def open_files(most: int) -> Iterator[None]:
    """No file gets a number of this or more: an OSError (EMFILE)."""
    with _limit(resource.RLIMIT_NOFILE, most):
        yield


@contextmanager
def _limit(kind: int, soft: int) -> Iterator[None]:
    before, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (before, hard))
