"""A whole pipeline as a job: a commit is checked out, its data pulled, `dvc repro` run, and what it made pushed.

What stays are the results in the DVC remote, the version in the registry and dvc.lock, which goes back to the one who
asked. The folder it worked in is gone afterwards.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from pipelines.depot.depot import Depot
from pipelines.depot.ref import put_folder
from pipelines.errors import Interrupted
from pipelines.remote.dvc_commands import Push, Repro, keep_cache
from pipelines.remote.environment import environment_of_clone
from pipelines.remote.kept import kept_of
from pipelines.remote.registering import commands_to_register
from pipelines.remote.request import Answer, Request
from pipelines.remote.supervised import Ended, supervised
from pipelines.tracking.git import git

STAGE = "pipeline"
"""What its request is for, instead of a stage."""
BUNDLE = "repository.bundle"
LOCK = "dvc.lock"
_OF_STAGE = re.compile(r", exited with (-?\d+)$")
"""What DVC says of a stage that failed, whose exit status it does not make its own."""
_STAGE_BY_SIGNAL = (-2, -15, 130, 143)
_DVC_BY_SIGNAL = (143, 252)
"""SIGTERM, and Ctrl-C where no stage runs."""


def carry_out(request: Request, project: Path, depot: Depot) -> Answer:
    """The pipeline of a commit in `project`, a folder that is not there yet.

    Raises:
        PipelineError: git refuses; the depot lacks something, or does not answer.
    """
    params, environment = request.params, environment_of_clone(request.settings["environment"])
    repository = project.with_name("repository")
    request.inputs["repository"].fetch(repository)
    git(repository, "clone", "--quiet", "--no-checkout", str(repository / BUNDLE), str(project))
    git(project, "checkout", "--quiet", "--detach", params["commit"])
    keep_cache(project, environment)
    before = _lock(project)
    repro = ["dvc", "repro", "--pull", "--allow-missing", *params["targets"]]
    ended = supervised(repro, project, environment, request.stalled_after_s, Repro())
    for command in commands_to_register(project / LOCK, ended.lines):
        if ended.exit_status == 0:
            ended = supervised(command, project, environment, request.stalled_after_s, Repro())
    pushed = Ended(0, "nothing was made that is not in the remote")
    if _lock(project) != before:  # also of a pipeline that failed: what it came to is not made again
        pushed = supervised(["dvc", "push", "--run-cache"], project, environment, request.stalled_after_s, Push())
    stopped = stopped_with(ended)
    status = Interrupted.exit_status if stopped else ended.exit_status or pushed.exit_status
    kept = kept_of(project)
    return Answer(
        exit_status=status,
        said=_said(ended, pushed, stopped, project),
        outputs=None if status else put_folder(depot, project, [LOCK]),
        kept=put_folder(depot, kept) if kept else None,
    )


def stopped_with(ended: Ended) -> str:
    """The last words of a pipeline that was stopped; empty of one that ended well, or failed by itself.

    It was stopped where its stage ended as one that has saved; or, asked to end, by the signal. A stage that wanted to
    save and could not has failed.
    """
    of_stage = next((int(found[1]) for line in reversed(ended.lines) if (found := _OF_STAGE.search(line))), None)
    words = next((line for line in reversed(ended.lines) if line.startswith(("stopped: ", "error: "))), "")
    saved = of_stage == Interrupted.exit_status
    cut_off = ended.asked and (ended.exit_status in _DVC_BY_SIGNAL or of_stage in _STAGE_BY_SIGNAL)
    if ended.exit_status == 0 or words.startswith("error: ") or not (saved or cut_off):
        return ""
    return words.removeprefix("stopped: ") or "the stage that ran begins again, those before it are done"


def _lock(project: Path) -> bytes:
    path = project / LOCK
    return path.read_bytes() if path.exists() else b""


def _said(ended: Ended, pushed: Ended, stopped: str, project: Path) -> str:
    """What is told of it."""
    words = [stopped or ended.said] if ended.exit_status else []
    if pushed.exit_status:
        words.append(f"the results were not pushed: {pushed.said}")
    if words:
        return "; ".join(words)
    receipt = project / "results/register/receipt.json"
    if not receipt.exists():
        return "done, and pushed"
    version = json.loads(receipt.read_text())
    return f"done, and pushed; registered as models:/{version['name']}/{version['version']}"
