"""The environment of what a job runs in a clone: the machine's, without what belongs to the job's own code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from pipelines.cluster.code import JOB
from pipelines.project import workspace
from pipelines.report.progress import RELAY

_LEFT_OUT = ("PIPELINES__JOBS__", "DVC_ROOT", "DVC_STAGE", "DVC_EXP_", "DVC_STUDIO_")
"""Beginnings of names: the one who asked may be a stage himself, of which DVC speaks so to what it starts. Where DVC
keeps its things on this machine (DVC_SITE_CACHE_DIR ..) stays."""


def environment_of_clone(given: Mapping[str, str]) -> dict[str, str]:
    """With the settings of the one who asked; for bars on his terminal.

    Stages run in the job, whatever the commit says of jobs, and so does the commit's code on all workers.
    """
    here = {name: value for name, value in os.environ.items() if not name.startswith(_LEFT_OUT)}
    here |= {RELAY: "told", "DVC_NO_ANALYTICS": "1", **given, "PIPELINES__JOBS__STAGES": "[]"}
    if JOB in here:
        here[JOB] = _without_code(here[JOB])
    if "PYTHONPATH" in here:
        paths = here["PYTHONPATH"].split(os.pathsep)
        here["PYTHONPATH"] = os.pathsep.join(path for path in paths if Path(path).resolve() != workspace())
    return here


def _without_code(job: str) -> str:
    """What Ray tells a job's processes, without the job's working directory: workers would have its code, where that
    of the clone is to be sent to them (`cluster/code.py`)."""
    told = json.loads(job)
    environment = told.get("runtime_env") or {}
    kept = {name: value for name, value in environment.items() if name != "working_dir"}
    return json.dumps(told | {"runtime_env": kept})
