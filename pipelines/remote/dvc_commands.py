"""DVC's commands in a job: how they are asked to end, how they get on, where their cache is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import psutil

from pipelines.depot.cache import in_cache
from pipelines.errors import PipelineError
from pipelines.remote.supervised import Manner
from pipelines.tracking.refusals import redact

_MUCH = 1 << 20
"""Bytes that a command which gets on reads and writes; one that waits for a network reads a few now and then."""
_CONFIG_S = 120.0


class _Dvc(Manner):
    """It tells no progress where there is no terminal. What it brings, sends or hashes it reads and writes itself; what
    its stages read and write is another matter, as one that hangs may still do that."""

    def __init__(self) -> None:
        self._passed = 0

    def moved(self, process: subprocess.Popen[str]) -> bool:
        """Whether it has read and written a megabyte since this was so before."""
        passed = _bytes_passed(process.pid)
        if passed < self._passed + _MUCH:
            return False
        self._passed = passed
        return True


class Repro(_Dvc):
    """`dvc repro`. It ends with its stages, which run one after the other in its process group."""

    def __init__(self) -> None:
        super().__init__()
        self._known: set[int] = set()

    def ask(self, process: subprocess.Popen[str]) -> None:
        """As Ctrl-C at a terminal does: DVC leaves it to the stage, and fails with it. SIGTERM would end DVC alone."""
        self._known |= _stages(process.pid)
        os.killpg(process.pid, signal.SIGINT)

    def ask_on(self, process: subprocess.Popen[str]) -> None:
        """Where the stage came to its end all the same DVC has begun the next one."""
        if _stages(process.pid) - self._known:
            self.ask(process)


class Push(_Dvc):
    """`dvc push`. A job that is to save and stop needs it for that."""

    heeds = False
    stalled = (
        "`dvc push` has sent nothing for {minutes:g} minutes (jobs.stalled_after_min) and is ended: see whether the "
        "DVC remote answers. The same command starts another job; on the same machine it finds what this one has made"
    )


def keep_cache(project: Path, environment: Mapping[str, str]) -> None:
    """Put DVC's cache where the next job on this machine finds it, unless the commit or the machine names a place.

    Jobs with the same remotes share one, as `dvc push --run-cache` sends all of it. Like everything in the machine's
    cache it is removed when no job has used it for two weeks.

    Raises:
        DataError, StoreError: as `in_cache`.
        PipelineError: DVC cannot be run, or refuses.
    """
    if _config(project, environment, "cache.dir"):
        return
    remotes = sha256((project / ".dvc/config").read_bytes()).hexdigest()[:16]
    folder = in_cache(f"dvc-{remotes}", lambda part: part.mkdir(exist_ok=True))
    _config(project, environment, "--local", "cache.dir", str(folder))


def _config(project: Path, environment: Mapping[str, str], *words: str) -> str:
    """What `dvc config` prints."""
    try:
        done = subprocess.run(
            ["dvc", "config", *words],
            cwd=project,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_CONFIG_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PipelineError(f"dvc could not be run: {error}") from None
    if done.returncode:
        raise PipelineError(f"`dvc config {' '.join(words)}`: {redact(done.stderr.strip())}")
    return done.stdout.strip()


def _stages(number: int) -> set[int]:
    """The processes that DVC has started: the shell of a stage, which its command mostly takes the place of."""
    with suppress(psutil.NoSuchProcess):
        return {child.pid for child in psutil.Process(number).children()}
    return set()


def _bytes_passed(number: int) -> int:
    """What a process itself has read and written so far; 0 where the system does not tell."""
    if sys.platform == "linux":
        with suppress(psutil.Error):
            passed = psutil.Process(number).io_counters()
            return int(passed.read_chars + passed.write_chars)
    return 0
