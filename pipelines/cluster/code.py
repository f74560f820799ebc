"""The code of this workspace on its way to the workers of a cluster, which may have another one or none.

What travels is the two packages and nothing else: no parameters, results, state or secrets.
"""

from __future__ import annotations

import json
import os
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

from pipelines.depot.tree import Tree, tree_of
from pipelines.project import workspace
from pipelines.settings import Settings

PACKAGES = ("diffusion", "pipelines")
SUFFIXES = {".py", ".j2"}
"""Of what the packages need at run time."""
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Where Ray tells a job's entry point what environment its workers have."""
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


@cache
def code_here() -> Tree:
    """The files that travel."""
    root = workspace()
    files = (path for package in PACKAGES for path in (root / package).rglob("*") if path.suffix in SUFFIXES)
    return tree_of(root, (path.relative_to(root).as_posix() for path in files))


def write_package(path: Path) -> None:
    """The same as a zip file; equal code gives equal bytes, so that a cluster that has it is sent nothing."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for name in sorted(code_here().files):
            entry = zipfile.ZipInfo(name, _LONG_AGO)
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            package.writestr(entry, (workspace() / name).read_bytes())


def environment_of_job() -> dict[str, Any]:
    """The runtime environment of the Ray job that this process is the entry point of; empty if it is none."""
    environment: dict[str, Any] = json.loads(os.environ.get(JOB, "{}")).get("runtime_env") or {}
    return environment


def runtime_environment(package: Path, variables: dict[str, str]) -> dict[str, Any]:
    """What `ray.init` is told of the workers: our code, unless a job brought its own along, and these variables.

    A job's entry point must not name again what the job has.
    """
    ours, given = {"working_dir": str(package)}, environment_of_job()
    own = {name: value for name, value in variables.items() if name not in given.get("env_vars", {})}
    return ({} if given.get("working_dir") else ours) | ({"env_vars": own} if own else {})


def code_tags(settings: Settings) -> dict[str, str]:
    """For the tracker: the digest of what the workers of a cluster run. On this machine they run what is here."""
    return {"code.shipped": code_here().digest} if settings.ray.address else {}
