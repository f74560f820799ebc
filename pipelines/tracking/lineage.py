"""Where a run came from: commit, environment, hardware; and the parameters as flat, stable names."""

from __future__ import annotations

import json
import os
import platform
import re
from importlib.metadata import version
from typing import Any

from pipelines.params import Params
from pipelines.project import home, workspace
from pipelines.runs.digest import sha256_hex
from pipelines.tracking.changes import changed_names
from pipelines.tracking.environment import environment_digest
from pipelines.tracking.git import asked

LOCK = "requirements.lock"
GIT = "PIPELINES_GIT"
"""Environment variable of a job elsewhere: the tags as JSON."""


def params_flat(params: Params) -> dict[str, str]:
    """`train.steps` -> "2000" and so on, for every parameter."""
    return dict(_flatten("", params.model_dump(mode="json", by_alias=True)))


def _flatten(prefix: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in _flatten(f"{prefix}.{key}" if prefix else key, inner)]
    return [(prefix, "null" if value is None else str(value))]


def lineage() -> dict[str, str]:
    """Tags that say what code ran on what: no host names, paths or users."""
    lock = workspace() / LOCK
    return {
        **git_tags(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "environment.digest": environment_digest(),
        **({f"{LOCK}.sha256": sha256_hex(lock.read_bytes())} if lock.exists() else {}),
        "hardware": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }


def git_tags() -> dict[str, str]:
    """The commit and the one before it, whether the files differ from it, and the remote. Empty outside a repository.

    In a temporary copy made by `dvc exp run --temp` the commit is that of the project, and the experiment's parameters
    are a change of it that is not committed. A job elsewhere has no repository, but is told of the one it comes from.
    """
    if told := os.environ.get(GIT):
        tags: dict[str, str] = json.loads(told)
        return tags
    folder = next((each for each in (workspace(), home()) if asked(each, "rev-parse", "HEAD")), None)
    if folder is None:
        return {}
    commit, *parents = asked(folder, "log", "-1", "--format=%H %P").split()
    remote = public_address(asked(home(), "remote", "get-url", "origin"))
    return {
        "git.commit": commit,
        "git.dirty": str(bool(changed_names(folder))).lower(),
        **({"git.parent": parents[0]} if parents else {}),
        **({"git.remote": remote} if remote else {}),
    }


def public_address(remote: str) -> str:
    """The address of a remote without user and password; empty where it cannot be said what of it they are, and for a
    folder, which means nothing elsewhere."""
    if match := re.fullmatch(r"(https?|git)://(?:[^/]*@)?([^?#@]*)(?:[?#].*)?", remote):
        return f"{match[1]}://{match[2]}"
    if match := re.fullmatch(r"ssh://(?:([^/@:]+)(?::[^/]*)?@)?([^@]*)", remote):
        return f"ssh://{match[1]}@{match[2]}" if match[1] else f"ssh://{match[2]}"
    return remote if re.fullmatch(r"[\w.-]+@[\w.-]+:[^/].*", remote) else ""
