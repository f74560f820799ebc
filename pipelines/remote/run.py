"""The job itself, where it landed: fetch what it needs, run the stage, put what it leaves into the depot. Or, instead
of a stage, a whole pipeline (`pipeline.py`).

    python -m pipelines.remote.run s3://bucket/prefix/depot train-5f0c3a9e1b7d2468-c41d07-1 SHA-256

It works in a folder of its own that is gone afterwards. It ends with the stage's exit status. SIGTERM is passed on, so
a training saves and ends with 75.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from pipelines.cluster.token import on_this_machine
from pipelines.data.sharing import fetch
from pipelines.depot.address import depot_at
from pipelines.depot.depot import Depot
from pipelines.depot.ref import put_folder
from pipelines.depot.tree import check_name
from pipelines.errors import DataError, PipelineError
from pipelines.remote import pipeline
from pipelines.remote.kept import kept_of
from pipelines.remote.request import Answer, Request, answer_note, request_note
from pipelines.remote.supervised import Ended, supervised
from pipelines.report.progress import RELAY
from pipelines.runs.digest import sha256_hex
from pipelines.tracking.lineage import GIT

_NOT_THERE = ("DVC_", "PIPELINES__JOBS__")
"""Environment variables of the one who asked, where the job runs on his machine: it is not to ask another one."""


def lay_out(request: Request, project: Path) -> None:
    """The project as the stage finds it: code, parameters, settings, inputs.

    Raises:
        DataError: something is missing in the depot, or damaged.
    """
    from ruamel.yaml import YAML

    request.code.fetch(project)
    for folder, ref in request.inputs.items():
        check_name(folder)
        (project / folder).parent.mkdir(parents=True, exist_ok=True)
        fetch(ref, project / folder)
    infra = project / "infra"
    infra.mkdir(exist_ok=True)
    with (infra / "cluster.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(dict(request.settings), file)


def run_stage(request: Request, project: Path) -> Ended:
    """The stage, as `dvc repro` would run it there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_THERE)}
    environment |= _places(request) | {RELAY: "told", GIT: json.dumps(dict(request.git))}
    command = [sys.executable, "-m", f"pipelines.{request.stage}"]
    return supervised(command, project, environment, request.stalled_after_s)


def _places(request: Request) -> dict[str, str]:
    """Where the stage's state and numbers go, as environment variables: there whoever asked will look for them,
    whatever the machines of the cluster have. To a server that he reaches by a tunnel they have a way of their own.
    """
    storage, tracking = request.settings["storage"]["uri"], request.settings["tracking"]["uri"]
    reached = tracking is not None and not on_this_machine(urlsplit(tracking).hostname or "")
    return {"PIPELINES__STORAGE__URI": storage} | ({"MLFLOW_TRACKING_URI": tracking} if reached else {})


def leave(request: Request, project: Path, ended: Ended, depot: Depot) -> Answer:
    """Put into the depot what the stage has made, and what is not in MLflow yet."""
    outputs = project / "results" / request.stage
    whole = ended.exit_status == 0
    if whole and not outputs.is_dir():
        raise DataError(f"the stage ended well, but left no results/{request.stage}")
    kept = kept_of(project)
    return Answer(
        exit_status=ended.exit_status,
        said=ended.said,
        outputs=put_folder(depot, outputs) if whole else None,
        kept=put_folder(depot, kept) if kept else None,
    )


def main() -> None:
    """One job."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.remote.run", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("depot", help="address of the depot")
    parser.add_argument("name", help="of the job")
    parser.add_argument("sha256", help="of its request")
    given = parser.parse_args()
    depot = depot_at(given.depot)
    content = depot.noted(request_note(given.name))
    if content is None:
        raise DataError(
            f"nobody has asked for a job {given.name} in {given.depot}, as seen from here: storage.uri must be a place "
            "that all machines see"
        )
    if sha256_hex(content) != given.sha256:
        raise DataError(f"the request for job {given.name} in {given.depot} is not the one it was started for")
    request = Request.decode(content)
    if depot.noted(answer_note(given.name)):  # of the same job before it was put back into the queue
        depot.note(answer_note(given.name), b"")
    try:
        answer = _carry_out(given.name, request, depot)
    except PipelineError as error:
        depot.note(answer_note(given.name), Answer(error.exit_status, str(error)).encode())
        raise
    depot.note(answer_note(given.name), answer.encode())
    raise SystemExit(answer.exit_status)


def _carry_out(name: str, request: Request, depot: Depot) -> Answer:
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
        project = Path(folder) / "project"
        if request.stage == pipeline.STAGE:
            print(f"job {name}: the pipeline of commit {request.params['commit'][:12]}", flush=True)
            return pipeline.carry_out(request, project, depot)
        print(f"job {name}: fetching code and {', '.join(request.inputs) or 'nothing else'}", flush=True)
        lay_out(request, project)
        ended = run_stage(request, project)
        return leave(request, project, ended, depot)


if __name__ == "__main__":
    from pipelines.stage import run

    run(main, arguments=True)
