"""Asking git, and telling it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pipelines.errors import PipelineError

_TIMEOUT_S = 600


def git(folder: Path, *arguments: str, feed: bytes | None = None, env: Mapping[str, str] | None = None) -> bytes:
    """What a git command prints.

    Args:
        feed: its standard input.
        env: variables besides this process's own.

    Raises:
        PipelineError: git refuses, in its own words, or is not installed.
    """
    try:
        done = _run(folder, *arguments, feed=feed, env=env)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PipelineError(f"git could not be run: {error}") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}"
        raise PipelineError(f"git {arguments[0]} in {folder}: {said}")
    return done.stdout


def asked(folder: Path, *arguments: str) -> str:
    """One line of git's answer; empty where it has none, is not installed, or `folder` is in no repository."""
    try:
        done = _run(folder, *arguments)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else ""


def is_here(folder: Path, commit: str) -> bool:
    """Whether the repository of `folder` has the commit, on a branch or not."""
    return bool(asked(folder, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"))


def _run(
    folder: Path, *arguments: str, feed: bytes | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    whole = {**os.environ, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", **(env or {})}
    command = ["git", *arguments]
    return subprocess.run(
        command, cwd=folder, input=feed, env=whole, capture_output=True, check=False, timeout=_TIMEOUT_S
    )
