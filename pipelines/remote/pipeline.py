"""A whole pipeline as a job: a commit is checked out, its data pulled, `dvc repro` run, and what it made pushed.

What stays are the results in the DVC remote, the version in the registry and dvc.lock, which goes back to the one who
asked. The folder it worked in is gone afterwards.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from pipelines.depot.depot import Depot
from pipelines.depot.ref import put_folder
from pipelines.remote.kept import kept_of
from pipelines.remote.request import Answer, Request
from pipelines.remote.supervised import Ended, supervised
from pipelines.report.progress import RELAY
from pipelines.tracking.git import git

STAGE = "pipeline"
"""What its request is for, instead of a stage."""
BUNDLE = "repository.bundle"
LOCK = "dvc.lock"
_COMMIT_S = 3600.0
"""How long git or DVC may take to bring or send something of which they tell no progress."""


def carry_out(request: Request, project: Path, depot: Depot) -> Answer:
    """The pipeline of a commit in `project`, a folder that is not there yet.

    Raises:
        PipelineError: git refuses; the depot lacks something, or does not answer.
    """
    params, environment = request.params, _environment(request.settings["environment"])
    repository = project.with_name("repository")
    request.inputs["repository"].fetch(repository)
    git(repository, "clone", "--quiet", "--no-checkout", str(repository / BUNDLE), str(project))
    git(project, "checkout", "--quiet", "--detach", params["commit"])
    before = _lock(project)
    repro = ["dvc", "repro", "--pull", "--allow-missing", *params["targets"]]
    ended = supervised(repro, project, environment, request.stalled_after_s)
    pushed = Ended(0, "nothing was made that is not in the remote")
    if _lock(project) != before:  # also of a pipeline that failed: what it came to is not made again
        pushed = supervised(["dvc", "push", "--run-cache"], project, environment, _COMMIT_S)
    status = ended.exit_status or pushed.exit_status
    kept = kept_of(project)
    return Answer(
        exit_status=status,
        said=_last(ended, pushed, project),
        outputs=None if status else put_folder(depot, project, [LOCK]),
        kept=put_folder(depot, kept) if kept else None,
    )


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    """That of the machine, with the settings of the one who asked; for bars on his terminal."""
    here = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "PIPELINES__JOBS__"))}
    return here | {RELAY: "told", "DVC_NO_ANALYTICS": "1", **given}


def _lock(project: Path) -> bytes:
    path = project / LOCK
    return path.read_bytes() if path.exists() else b""


def _last(ended: Ended, pushed: Ended, project: Path) -> str:
    """What is told of it."""
    if ended.exit_status:
        return ended.said
    if pushed.exit_status:
        return f"the results were not pushed: {pushed.said}"
    receipt = project / "results/register/receipt.json"
    if not receipt.exists():
        return "done, and pushed"
    version = json.loads(receipt.read_text())
    return f"done, and pushed; registered as models:/{version['name']}/{version['version']}"
