"""A clone of the project as it was for a version, in a folder of its own: `dvc repro` there makes the version again.

Nothing that runs there touches the project: the clone has its own `.state` and DVC cache, and its infra/cluster.yaml
names no server and no storage, or a training would find the finished run instead of making it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.errors import ParamsError, PipelineError, TrackingError
from pipelines.reproduction.here import Check, commit_check, data_check
from pipelines.runs.source import source_digest
from pipelines.tracking.git import git, is_here
from pipelines.tracking.origin import CODE, LOCK, PARAMS, Origin

CLUSTER = "infra/cluster.yaml"
_OUTWARDS = ("DVC_ROOT", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
_OUTWARD_SECTIONS = ("PIPELINES__STORAGE", "PIPELINES__TRACKING")
_NO_CODE = {".md", ".rst", ".csv", ".png", ".jpg", ".jpeg", ".gif"}
"""Changes to all other files but params.yaml may run something: infra/cluster.yaml names the Ray that is joined."""
_FACTS = """
import json, sys
from pipelines.params import load_params
from pipelines.runs.key import run_key
from pipelines.tracking.lineage import params_flat
from pipelines.train import code_of_a_step, params_of_a_run
params = load_params()
key = run_key(params_of_a_run(params), sys.argv[1], code_of_a_step())
print(json.dumps({"key": key, "params": params_flat(params)}))
"""


def clone(project: Path, folder: Path, commit: str) -> None:
    """A clone at a commit. It may use the project's objects, of any commit, without the project's being there later.

    Raises:
        ParamsError: the folder is not empty.
        PipelineError: git refuses.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ParamsError(f"{folder} is not empty: name a folder that does not exist yet")
    folder.parent.mkdir(parents=True, exist_ok=True)
    git(folder.parent, "clone", "--quiet", "--local", "--no-checkout", str(project), str(folder))
    git(folder, "checkout", "--quiet", "--detach", commit)


def check_out(
    origin: Origin, project: Path, folder: Path, at: str | None = None, *, run_code: bool = False
) -> list[Check]:
    """Make the clone and bring it to the version's state; what is equal to the version's, and what is not.

    Whoever may write to the registry has written the version's patch: where it changes code nothing of the clone is
    run, unless the person, who has read it, says so.

    Args:
        at: another commit than the version's; its code then is another, and the changes are only those of params.yaml.
        run_code: whether the patch's code may run.

    Raises:
        TrackingError: the commit or the parameters of the version are not known.
        ParamsError: the folder is not empty.
        PipelineError: the commit is not here, or the patch does not fit it.
    """
    _check_known(origin)
    if at is None and not (check := commit_check(origin, project)).ok:
        raise PipelineError(f"{check.says}; {check.remedy}")
    if at is not None and not is_here(project, at):
        raise PipelineError(f"--at {at}: there is no such commit here")
    clone(project, folder, at or origin.commit)
    found = []
    if at is None and origin.patch:
        git(folder, "apply", "--index", "--whitespace=nowarn", "-", feed=origin.patch)
        names = _patched(folder)
        run_code = run_code or all(_is_no_code(name) for name in names)
        remedy = "it changes code, of which nothing runs without --run-code"
        found.append(Check("patch", run_code, f"changes {', '.join(names)}", remedy))
    else:
        run_code = True
    found += _put_in_place(origin, project, folder, pull=run_code)
    return [*found, *(compared(origin, folder) if run_code else [_code_check(origin, folder)])]


def _check_known(origin: Origin) -> None:
    number = origin.version.number
    if not origin.version.training:
        raise TrackingError(f"version {number} was trained elsewhere and adopted: no training to repeat")
    if PARAMS in origin.left_out:
        raise TrackingError(
            f"params.yaml of version {number} was not kept, since {origin.left_out[PARAMS]}: bring the project back to "
            "its state by hand"
        )
    if not (origin.folder / PARAMS).exists():
        raise TrackingError(f"version {number} came from a project without params.yaml")


def _patched(folder: Path) -> list[str]:
    """The files that a patch has changed in a fresh clone.

    Raises:
        PipelineError: one is a link to a place outside, where what is written next would go.
    """
    listed = git(folder, "diff", "HEAD", "--name-only", "--no-renames", "-z").decode(errors="surrogateescape")
    names = [name for name in listed.split("\0") if name]
    for name in names:
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise PipelineError(f"the version's patch makes {name} a link to a place outside of the clone: not used")
    return names


def _is_no_code(name: str) -> bool:
    return name == PARAMS or PurePosixPath(name).suffix in _NO_CODE


def _put_in_place(origin: Origin, project: Path, folder: Path, *, pull: bool) -> Iterator[Check]:
    registered, there = (origin.folder / PARAMS).read_bytes(), folder / PARAMS
    if not there.exists() or there.read_bytes() != registered:
        yield Check("params.yaml", True, "as registered; commit and changes alone would have given another")
        there.write_bytes(registered)
    if (origin.folder / LOCK).exists():
        (folder / LOCK).write_bytes((origin.folder / LOCK).read_bytes())
    _cut_off(folder / CLUSTER)
    (folder / ".dvc").mkdir(exist_ok=True)
    (folder / ".dvc/config.local").write_text(f"[cache]\n    dir = {folder / '.dvc/cache'}\n")
    yield _data(origin, project, folder, pull=pull)


def _cut_off(path: Path) -> None:
    """No server and no storage of others; the rest of the file as it is."""
    from ruamel.yaml import YAML

    if not path.exists():
        return
    yaml = YAML()
    yaml.representer.add_representer(type(None), lambda to, _: to.represent_scalar("tag:yaml.org,2002:null", "null"))
    content = yaml.load(path.read_text()) or {}
    named = [section for section in ("storage", "tracking") if (content.get(section) or {}).get("uri") is not None]
    for section in named:
        content[section]["uri"] = None
    if named:
        with path.open("w") as file:
            yaml.dump(content, file)


def _data(origin: Origin, project: Path, folder: Path, *, pull: bool) -> Check:
    """The raw images, as a link to the project's where these are the same; pulled where DVC keeps them."""
    check, params = data_check(origin, project), origin.version.params
    path = Path(params.get("data.path", ""))
    if params.get("data.source") != "folder" or path.is_absolute():
        return check
    if check.ok:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if not (folder / path).exists():
            (folder / path).symlink_to((project / path).resolve())
    elif pull and (folder / f"{path}.dvc").exists():
        done = subprocess.run(
            ["dvc", "pull", str(path)], cwd=folder, env=environment(), capture_output=True, check=False
        )
        check = data_check(origin, folder) if done.returncode == 0 else check
    return check


def compared(origin: Origin, folder: Path) -> list[Check]:
    """Whether parameters, code and run key are those of the version, as the clone's own code names them."""
    facts = facts_of(folder, origin.data_digest)
    other = _differing(origin.version.params, facts["params"])
    code = _code_check(origin, folder)
    key = facts["key"] == origin.run_key
    return [
        Check("parameters", not other, "the same" if not other else f"differ: {', '.join(other)}"),
        code,
        Check("run", key, facts["key"] if key else f"{facts['key']}, wanted {origin.run_key}", _why(other, code.ok)),
    ]


def _code_check(origin: Origin, folder: Path) -> Check:
    same = source_digest([folder / name for name in CODE]) == origin.version.tags.get("source.digest")
    return Check("code", same, "the same but for comments" if same else "another", "see what is missing of the changes")


def _why(other: list[str], code: bool) -> str:
    if other or not code:
        return "it follows from the above" if other else "if it is the code of training that differs"
    return "the files were changed between training and registering"


def _differing(registered: dict[str, str], here: dict[str, str]) -> list[str]:
    return [
        f"{name} {here.get(name, 'missing')} (was {registered.get(name, 'missing')})"
        for name in sorted(registered.keys() | here.keys())
        if registered.get(name) != here.get(name)
    ]


def facts_of(folder: Path, data_digest: str) -> dict[str, Any]:
    """Run key and parameters as the code in `folder` says them, in a process of its own.

    Raises:
        PipelineError: that code cannot say them.
    """
    command = [sys.executable, "-c", _FACTS, data_digest]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise PipelineError(f"the code in {folder} cannot name its run: {last[0]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def environment() -> dict[str, str]:
    """This process's, without what leads out of the clone."""
    outwards = leading_elsewhere(os.environ)
    return {name: value for name, value in os.environ.items() if name not in outwards}


def leading_elsewhere(variables: Iterable[str]) -> list[str]:
    """Those environment variables that would connect the clone with the project, its server or its checkpoints.

    Settings are read from any spelling in capitals or not, key by key or a section at once.
    """
    return sorted(name for name in variables if name in _OUTWARDS or name.upper().startswith(_OUTWARD_SECTIONS))
