"""From a stage of this project to a request: its key, its inputs and its code put into the depot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipelines.cluster.code import code_here
from pipelines.configuration import read_yaml
from pipelines.data.sharing import is_prepared, tree_of_images
from pipelines.depot.depot import Depot
from pipelines.depot.ref import Ref, put_folder, put_tree
from pipelines.errors import DataError, ParamsError
from pipelines.params import Params
from pipelines.project import workspace
from pipelines.remote.request import Request
from pipelines.runs.address import place_of
from pipelines.runs.digest import digest
from pipelines.runs.source import source_digest
from pipelines.settings import Settings

if TYPE_CHECKING:
    from pipelines.depot.tree import Tree
    from pipelines.measure.pretrained import PretrainedName

_BESIDE = ("params.yaml", "requirements.lock")
_KEY = 16
_MEASURE = ("reference", "evaluate")
"""Stages that may need a network that was trained elsewhere."""


KeyOf = Callable[[Params, Settings], str]
"""What names the work of a stage, where the stage has a name for it itself."""


def request_of(
    stage: str, params: Params, settings: Settings, depot: Depot, place: str, key_of: KeyOf | None = None
) -> Request:
    """What a job at `Backend.place` is asked to do. All that the stage reads is in the depot afterwards.

    Raises:
        PipelineError: an input is missing or damaged, the parameters do not fit, the depot does not answer.
    """
    from pipelines.tracking.lineage import git_tags

    code, folders = _deps(stage, params)
    chosen = params_of(stage, params)
    key = key_of(params, settings) if key_of else None
    weights = _weights(stage, params, settings)
    inputs = {folder: _put(depot, folder) for folder in folders} | {
        f"weights/{name}": put_tree(depot, file.parent, tree) for name, (file, tree) in weights.items()
    }
    source = source_digest(code)
    parts = {"inputs": {folder: ref.digest for folder, ref in inputs.items()}, "source": source}
    return Request(
        stage=stage,
        key=key or digest({"stage": stage, "params": chosen, **parts})[:_KEY],
        params=chosen,
        code=put_folder(depot, workspace(), code_names()),
        inputs=inputs,
        settings=settings_there(settings)
        | {"weights": {name: f"weights/{name}/{file.name}" for name, (file, _) in weights.items()}},
        git=git_tags(),
        stalled_after_s=settings.jobs.stalled_after_min * 60,
        source=source,
        place=place,
    )


def check_place(settings: Settings) -> None:
    """Refuse a place for checkpoints and inputs that another machine would not see.

    Raises:
        ParamsError: it is this project's own folder.
    """
    host = urlsplit(settings.ray.address or "").hostname or ""
    elsewhere = settings.jobs.backend == "kuberay" or (host and host not in ("127.0.0.1", "localhost", "::1"))
    if elsewhere and settings.storage.uri is None:
        raise ParamsError(
            "stages run on other machines, but storage.uri is null, a folder of this one: give s3://bucket/prefix or a "
            "folder that all see (infra/cluster.yaml, or PIPELINES__STORAGE__URI)"
        )


def code_names() -> list[str]:
    """What of the project goes along, besides what the stage reads."""
    return sorted([*code_here().files, *(name for name in _BESIDE if (workspace() / name).exists())])


def params_of(stage: str, params: Params) -> dict[str, Any]:
    """The parameters that DVC knows the stage by."""
    values = params.model_dump(mode="json", by_alias=True)
    return {name: values[name] for name in _graph()[stage]["params"]}


def settings_there(settings: Settings) -> dict[str, Any]:
    """infra/cluster.yaml for the job: it is in the cluster, and runs its stage itself.

    Raises:
        ParamsError: an address holds a password: it would be seen by everybody on the cluster.
    """
    values = settings.model_dump(mode="json")
    del values["jobs"], values["weights"]  # the latter name files of this machine
    values["ray"]["address"] = None  # the cluster says it to its jobs
    values["storage"]["uri"] = str(place_of(settings))
    uri = settings.tracking.uri or ""
    if uri.startswith(("http://", "https://")):
        if "@" in urlsplit(uri).netloc:
            raise ParamsError(
                "tracking.uri holds a password, which a job's settings must not: set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, here and on the cluster's machines"
            )
    else:  # of this machine: the job brings its numbers back
        values["tracking"] |= {"uri": None, "send": False}
    return values


def _weights(stage: str, params: Params, settings: Settings) -> dict[PretrainedName, tuple[Path, Tree]]:
    """Files of networks that were trained elsewhere, of which the stage needs one perhaps. Downloaded here if need be:
    the job's machine may reach nothing."""
    from pipelines.measure.pretrained import PRETRAINED, find_pretrained

    used = [name for name in PRETRAINED if stage in _MEASURE and name == params.reference.extractor]
    found = [find_pretrained(name, settings) for name in used]
    return {each.name: (each.file, each.tree) for each in found}


def _deps(stage: str, params: Params) -> tuple[list[Path], list[str]]:
    """The code that the stage depends on, and the folders with data."""
    deps = [params.data.path if dep == "${data.path}" else dep for dep in _graph()[stage]["deps"]]
    is_code = {dep: dep.startswith(("pipelines/", "diffusion/")) for dep in map(str, deps)}
    outside = [dep for dep in is_code if Path(dep).is_absolute() or ".." in Path(dep).parts]
    if outside:
        raise ParamsError(
            f"{outside[0]} is outside of the project, where a job elsewhere has nothing: put the images into the "
            "project, or leave this stage out of jobs.stages, so that it runs here"
        )
    return [workspace() / dep for dep in is_code if is_code[dep]], [dep for dep in is_code if not is_code[dep]]


def _graph() -> dict[str, Any]:
    stages: dict[str, Any] = read_yaml(workspace() / "dvc.yaml")["stages"]
    return stages


def _put(depot: Depot, folder: str) -> Ref:
    """Of prepared images only what the depot lacks is read: their manifest says what the rest is."""
    path = workspace() / folder
    if not path.is_dir():
        raise DataError(f"{folder} is not there: run `dvc repro` for the stages before this one")
    return put_tree(depot, path, tree_of_images(path)) if is_prepared(path) else put_folder(depot, path)
