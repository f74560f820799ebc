"""A whole pipeline as a job on the cluster: `dvc repro` of a commit, from the data in the remote to a registered model.

    python -m pipelines.submit                           the commit that is checked out here
    python -m pipelines.submit --rev v1.2 train          another one, and only up to a stage
    python -m pipelines.submit --repo /srv/models.git --rev main --commit-to results

The job pulls what the commit needs from the DVC remote, runs what is not done, pushes the results and goes. dvc.lock
comes back: into this folder, if the commit is checked out in it, or as a commit on a branch. So it can run for a
schedule or in CI; its exit status is that of the pipeline. Run again it comes back to a job that is still at it, and
takes what one has left that has done this for the same MLflow server; `--again` has it done anew all the same. Where it
runs is in infra/cluster.yaml and the environment, as for stages that run as jobs.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipelines.errors import ParamsError
from pipelines.project import workspace
from pipelines.settings import Settings, load_settings

if TYPE_CHECKING:
    from pipelines.depot.depot import Depot
    from pipelines.remote.request import Answer, Request

_BRANCH = "submitted"
"""Of the bundle: it must have one."""


def commit_of(repository: Path, revision: str) -> str:
    """The commit that a revision names.

    Raises:
        ParamsError: there is none, or it lacks its history.
    """
    from pipelines.tracking.git import asked

    commit = asked(repository, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if not commit:
        raise ParamsError(f"--rev {revision}: {repository} has no such commit")
    if asked(repository, "rev-parse", "--is-shallow-repository") == "true":
        raise ParamsError(
            f"{repository} is a shallow clone, and the job takes the commit with all before it: "
            "`git fetch --unshallow`, or in CI a checkout with the whole history (fetch-depth: 0)"
        )
    return commit


def bundle_of(repository: Path, commit: str, depot: Depot) -> Any:
    """The commit and all before it, as a `Ref`: so the cluster needs no access to the repository."""
    from pipelines.depot.ref import put_folder
    from pipelines.remote.pipeline import BUNDLE
    from pipelines.tracking.git import git

    with tempfile.TemporaryDirectory() as folder:
        copy, whole = Path(folder) / "copy", Path(folder) / "whole"
        whole.mkdir()
        git(repository, "clone", "--quiet", "--bare", "--shared", str(repository.resolve()), str(copy))
        git(copy, "update-ref", f"refs/heads/{_BRANCH}", commit)
        git(copy, "symbolic-ref", "HEAD", f"refs/heads/{_BRANCH}")
        git(copy, "bundle", "create", "--quiet", str(whole / BUNDLE), "HEAD", _BRANCH)
        return put_folder(depot, whole)


def request_of(
    repository: Path, commit: str, targets: list[str], settings: Settings, depot: Depot, place: str
) -> Request:
    """What the job at `Backend.place` is asked to do. Done for another registry it is not done."""
    from pipelines.depot.ref import put_folder
    from pipelines.remote.pack import code_names
    from pipelines.remote.pipeline import STAGE
    from pipelines.remote.request import Request
    from pipelines.runs.digest import digest

    work = {"commit": commit, "targets": targets}
    environment = settings_as_environment(settings)
    code = put_folder(depot, workspace(), code_names())
    return Request(
        stage=STAGE,
        key=digest(work)[:16],
        params=work | {"registry": environment["PIPELINES__TRACKING__URI"]},
        code=code,
        inputs={"repository": bundle_of(repository, commit, depot)},
        settings={"environment": environment},
        git={},
        stalled_after_s=settings.jobs.stalled_after_min * 60,
        source=code.digest,
        place=place,
    )


def settings_as_environment(settings: Settings) -> dict[str, str]:
    """The settings of this project for the job's, whose commit may have others. An address of Ray the cluster gives.

    Raises:
        ParamsError: no MLflow server is set: the version would be registered in a folder that is gone afterwards. Or it
            is one that only this machine reaches.
    """
    import json

    from pipelines.remote.pack import settings_there

    values = settings_there(settings)
    uri = values["tracking"]["uri"]
    if not uri:
        raise ParamsError(
            "the job registers its model, and needs an MLflow server for that: set tracking.uri to http://.. "
            "(infra/cluster.yaml, or MLFLOW_TRACKING_URI)"
        )
    host = urlsplit(uri).hostname or ""
    if settings.jobs.backend != "local" and (host in ("localhost", "::1") or host.startswith("127.")):
        raise ParamsError(
            f"tracking.uri is {uri}, which for the job is the machine that it runs on, and it registers its model at "
            "its end: give an address by which the cluster reaches the MLflow server"
        )
    sections = ("ray", "storage", "checkpoint", "tracking")
    return {"MLFLOW_TRACKING_URI": uri} | {  # the machines' own would win over the section's
        f"PIPELINES__{section.upper()}__{key.upper()}": value if isinstance(value, str) else json.dumps(value)
        for section in sections
        for key, value in values[section].items()
        if value is not None
    }


def bring_back(repository: Path, commit: str, branch: str | None, answer: Answer) -> None:
    """dvc.lock into this folder, or onto a branch of the repository.

    Raises:
        PipelineError: the branch has moved meanwhile.
        DataError, StoreError: the depot has it no more, or does not answer; this folder cannot be written to.
    """
    from pipelines.errors import DataError
    from pipelines.remote.pipeline import LOCK

    if answer.outputs is None:
        raise DataError("it left no dvc.lock")
    print(answer.said)
    content = (answer.outputs.here() / LOCK).read_bytes()
    if branch is None:
        place_lock(commit, content)
        return
    made = commit_lock(repository, commit, branch, content)
    print(f"{LOCK} is committed on {branch}: {made[:12]}; there `dvc pull` brings the results")


def check_lock(commit: str) -> None:
    """Refuse to bring dvc.lock of a commit's results into this folder where it would take the place of another one.

    Raises:
        ParamsError: another commit is checked out, or dvc.lock has changes.
    """
    if why := _why_not_here(commit):
        raise ParamsError(f"dvc.lock of the results would come into this folder, but {why}: add --commit-to BRANCH")


def place_lock(commit: str, content: bytes) -> None:
    """dvc.lock into this folder; beside the one that is there where that has changed meanwhile.

    Raises:
        StoreError: it cannot be written.
    """
    from pipelines.depot.stream import appearing, disk_errors
    from pipelines.remote.pipeline import LOCK

    why = _why_not_here(commit)
    path = workspace() / (f"{LOCK}.submitted" if why else LOCK)
    with disk_errors(f"{path} could not be written"), appearing(path) as building:
        building.write_bytes(content)
    if why:
        print(f"{path.name} is that of the results of {commit[:12]}, as by now {why}")
    else:
        print(f"{LOCK} is that of the results: `git add {LOCK} && git commit`, and `dvc pull` brings them here")


def _why_not_here(commit: str) -> str:
    """What keeps dvc.lock of a commit's results out of this folder; empty if nothing does."""
    from pipelines.remote.pipeline import LOCK
    from pipelines.tracking.git import asked

    here = workspace()
    head = asked(here, "rev-parse", "--verify", "--quiet", "HEAD")
    if head != commit:
        return f"what is checked out here is {head[:12] or 'no commit'}, not {commit[:12]}"
    if asked(here, "hash-object", LOCK) != asked(here, "rev-parse", "--verify", "--quiet", f"HEAD:./{LOCK}"):
        return f"{LOCK} here has changes that are not committed"
    return ""


def check_branch(repository: Path, branch: str) -> None:
    """Refuse one that cannot be moved without surprising somebody.

    Raises:
        ParamsError: it is no name of a branch, or is checked out.
    """
    from pipelines.tracking.git import asked

    if not asked(repository, "check-ref-format", "--branch", branch):
        raise ParamsError(f"--commit-to {branch}: git takes no branch of that name")
    bare = asked(repository, "rev-parse", "--is-bare-repository") == "true"
    if not bare and asked(repository, "symbolic-ref", "--quiet", "HEAD") == f"refs/heads/{branch}":
        raise ParamsError(f"--commit-to {branch} is checked out in {repository}: name another branch, or none")


def commit_lock(repository: Path, commit: str, branch: str, content: bytes) -> str:
    """A commit on top of `commit` with that dvc.lock, made without touching a working tree; the branch is moved to it.

    Where the branch has commits of its own, results of earlier commits for example, it is a merge with these.

    Raises:
        PipelineError: the branch has moved meanwhile.
    """
    from pipelines.remote.pipeline import LOCK
    from pipelines.tracking.git import asked, git

    ref = f"refs/heads/{branch}"
    there = asked(repository, "rev-parse", "--verify", "--quiet", ref)
    own = there and asked(repository, "merge-base", there, commit) != there
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git(repository, "read-tree", commit, env=index)
        blob = git(repository, "hash-object", "-w", "--stdin", feed=content).decode().strip()
        git(repository, "update-index", "--add", "--cacheinfo", f"100644,{blob},{LOCK}", env=index)
        tree = git(repository, "write-tree", env=index).decode().strip()
    parents = ("-p", commit, *(("-p", there) if own else ()))
    message = ("-m", f"{LOCK}: the results of {commit[:12]}")
    made = git(repository, *_AUTHOR, "commit-tree", tree, *parents, *message).decode().strip()
    git(repository, "update-ref", ref, made, there or "0" * 40)
    return made


_AUTHOR = ("-c", "user.name=pipelines.submit", "-c", "user.email=pipelines@localhost")
"""Of that commit; GIT_AUTHOR_NAME and the like win."""


def main() -> None:
    """Submit, watch, bring dvc.lock back."""
    from pipelines.backends.choose import backend_of
    from pipelines.depot.address import depot_of
    from pipelines.remote.dvc_remote import check_remote
    from pipelines.remote.pack import check_place
    from pipelines.remote.work import Work

    parser = argparse.ArgumentParser(prog="python -m pipelines.submit", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("targets", nargs="*", help="stages of dvc.yaml up to which to run; all if none is named")
    parser.add_argument("--rev", default="HEAD", help="the commit: a branch, a tag, a hash (default: HEAD)")
    parser.add_argument(
        "--repo", type=Path, default=workspace(), help="the repository, bare or not (default: this one)"
    )
    parser.add_argument("--commit-to", metavar="BRANCH", help="commit dvc.lock there instead of leaving it here")
    parser.add_argument("--again", action="store_true", help="start a job although one has done this before")
    given = parser.parse_args()
    settings = load_settings()
    backend = backend_of(settings)
    if backend is None:
        raise ParamsError(
            "no backend is set that takes jobs: RAY_ADDRESS=http://HEAD:8265, or jobs.backend in infra/cluster.yaml "
            "(local: this machine)"
        )
    check_place(settings)
    commit = commit_of(given.repo, given.rev)
    check_remote(given.repo, commit, settings)
    if given.commit_to:
        check_branch(given.repo, given.commit_to)
    else:
        check_lock(commit)
    depot = depot_of(settings)
    request = request_of(given.repo, commit, given.targets, settings, depot, backend.place)
    collect = partial(bring_back, given.repo, commit, given.commit_to)
    Work(request, depot, backend, settings, collect, again=given.again).run()


if __name__ == "__main__":
    from pipelines.stage import run

    run(main, arguments=True)
