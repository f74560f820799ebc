"""Where a run came from: commit, versions, hardware; and the parameters as flat, stable names."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipelines.params import Params
from pipelines.project import home, workspace


def params_flat(params: Params) -> dict[str, str]:
    """`train.steps` -> "2000" and so on, for every parameter."""
    return dict(_flatten("", params.model_dump(mode="json", by_alias=True)))


def _flatten(prefix: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in _flatten(f"{prefix}.{key}" if prefix else key, inner)]
    return [(prefix, "null" if value is None else str(value))]


def lineage() -> dict[str, str]:
    """Tags that say what code ran on what: no host names, paths or users."""
    return {
        **git_tags(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "hardware": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }


def git_tags() -> dict[str, str]:
    """The commit, and whether the files differ from it. Empty outside a repository.

    In a temporary copy made by DVC the commit is that of the copy, which DVC keeps.
    """
    commit = _git(workspace(), "rev-parse", "HEAD") or _git(home(), "rev-parse", "HEAD")
    if not commit:
        return {}
    dirty = bool(_git(workspace(), "status", "--porcelain", "--untracked-files=no"))
    return {"git.commit": commit, "git.dirty": str(dirty).lower()}


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
