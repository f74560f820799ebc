"""Folders of depots on this machine, each once for all processes of a user.

    DIGEST/        a folder that was brought here: whole, and not changed any more
    DIGEST.part/   one that is being brought; its files are whole, and the next one who brings it goes on with them
    DIGEST.lock    held by who brings it, alone; by all who use it, together, until they end. Its time is that of the
                   last use

A killed process holds no lock, and what it has left is under another name than a whole folder's.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.depot.stream import disk_errors
from pipelines.errors import DataError

VARIABLE = "PIPELINES_CACHE"
UNUSED_S = 14 * 24 * 3600.0
"""Folders that nobody has used for so long are removed when another one is brought."""

_used: dict[Path, int] = {}
"""The locks of the folders that this process uses, each held until it ends."""
_using = threading.Lock()


def cache_folder() -> Path:
    """This user's cache on this machine, made if need be: what PIPELINES_CACHE names, or a folder for temporary files.

    Raises:
        DataError: the latter belongs to somebody else, or others may look into it or write there.
        StoreError: it cannot be made.
    """
    given = os.environ.get(VARIABLE)
    folder = Path(given).expanduser().resolve() if given else Path(tempfile.gettempdir()) / f"pipelines-{os.geteuid()}"
    with disk_errors(f"{folder} could not be made"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not given:
            _check_own(folder)
    return folder


def in_cache(digest: str, fill: Callable[[Path], None]) -> Path:
    """The folder `digest`, for as long as this process lives. `fill` is called by one process at a time, if need be.

    Args:
        digest: of its `Tree`.
        fill: brings what a folder lacks, or raises.

    Raises:
        DataError, StoreError: as `fill` and `cache_folder`.
    """
    folder = cache_folder() / digest
    with disk_errors(f"{folder} could not be used"):
        while not _use(folder):
            with _lock(folder, fcntl.LOCK_EX):
                if not folder.exists():
                    _clean(folder.parent)
                    part = _part_of(folder)
                    fill(part)
                    _close(part)
                    part.rename(folder)
    return folder


def arrived(digest: str, name: str) -> Path | None:
    """A file of the folder `digest`, as soon as it is here, whole; None: it is not.

    Raises:
        DataError, StoreError: as `cache_folder`.
    """
    folder = cache_folder() / digest
    with disk_errors(f"{folder} could not be used"):
        if folder.exists() and _use(folder):
            return folder / name
        path = _part_of(folder) / name
        return path if path.exists() else None


def is_being_brought(digest: str) -> bool:
    """Whether some process is at it.

    Raises:
        DataError, StoreError: as `cache_folder`.
    """
    folder = cache_folder() / digest
    with disk_errors(f"{folder} could not be used"):
        try:
            with _lock(folder, fcntl.LOCK_SH | fcntl.LOCK_NB):
                return False
        except BlockingIOError:
            return True


def _part_of(folder: Path) -> Path:
    """Where the folder is while it is being brought."""
    return folder.with_name(f"{folder.name}.part")


def _close(folder: Path) -> None:
    """Let nobody else write to what is in it, whatever the umask: some of it is trusted."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o022)


def _use(folder: Path) -> bool:
    """Say that this process uses the folder, if it is there."""
    with _using:
        if folder in _used:
            return True
    descriptor = _open(folder)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    if not folder.exists():
        os.close(descriptor)
        return False
    os.utime(descriptor)
    with _using:
        _used[folder] = descriptor
    return True


@contextmanager
def _lock(folder: Path, how: int) -> Iterator[None]:
    descriptor = _open(folder)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _open(folder: Path) -> int:
    return os.open(folder.with_name(f"{folder.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _clean(cache: Path) -> None:
    """Remove what was not used for long and nobody uses now. Locks stay: they are empty."""
    for lock in cache.glob("*.lock"):
        if time.time() - lock.stat().st_mtime < UNUSED_S:
            continue
        folder = lock.with_suffix("")
        try:
            with _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
                for each in (folder, _part_of(folder)):
                    _remove(each)
        except BlockingIOError:  # in use
            continue


def _remove(folder: Path) -> None:
    """Not half of it under its name."""
    aside = folder.with_name(f"{folder.name}.gone")
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():
        folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _check_own(folder: Path) -> None:
    """Refuse a folder that somebody else has made under the name that is known to all."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise DataError(
            f"{folder} is not a folder of this user's own with mode 700, so its content is not to be trusted: remove "
            f"it, or name another one in {VARIABLE}"
        )
