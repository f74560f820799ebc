"""dvc.yaml says what the code does: stages, parameters and dependencies against modules, models and imports."""

from __future__ import annotations

import shutil
import typing
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import BaseModel

from pipelines.params import Params, read_yaml
from pipelines.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value will soon raise:DeprecationWarning")  # inside DVC

STAGES = ["prepare", "reference", "train", "classifier", "sample", "evaluate", "register"]
ELSEWHERE = {"pipelines.remote.stage"}
"""Through which a stage gets to a job elsewhere. What it makes there is the same, so it is no dependency."""
SHARED = {"data", "process", "model"}
"""Sections that belong to no stage alone."""


@dataclass(frozen=True)
class Stage:
    """A stage as DVC understands it, with all templates filled in."""

    name: str
    command: str
    deps: frozenset[Path]
    """Files and folders, relative to the root."""
    outs: frozenset[Path]
    params: dict[str, frozenset[str]]
    """Keys by file."""


@pytest.fixture(scope="module")
def graph(project, tmp_path_factory):
    """DVC's own reading of dvc.yaml, in a copy of the few files that it needs."""
    folder = tmp_path_factory.mktemp("graph")
    for name in ("dvc.yaml", "params.yaml", "infra/cluster.yaml"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(project.root / name, folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_NO_ANALYTICS", "1")
        yield _open_repo(folder)


def _open_repo(folder):
    from dvc.repo import Repo

    return Repo.init(str(folder), no_scm=True)


@pytest.fixture(scope="module")
def stages(graph) -> dict[str, Stage]:
    return {stage.name: _read(stage, Path(graph.root_dir)) for stage in graph.index.stages}


def _read(stage, root: Path) -> Stage:
    from dvc.dependency import ParamsDependency

    files = [dep for dep in stage.deps if not isinstance(dep, ParamsDependency)]
    params = {dep.def_path: frozenset(dep.params) for dep in stage.deps if isinstance(dep, ParamsDependency)}
    paths = frozenset(Path(dep.def_path) for dep in files)
    return Stage(stage.name, stage.cmd, paths, frozenset(Path(out.def_path) for out in stage.outs), params)


def covers(path: Path, file: Path) -> bool:
    return path == file or path in file.parents


def test_dvc_accepts_the_graph_and_it_has_no_circle(project, graph):
    from dvc.schema import COMPILED_MULTI_STAGE_SCHEMA

    COMPILED_MULTI_STAGE_SCHEMA(read_yaml(project.root / "dvc.yaml"))
    graph.index.check_graph()


def test_stage_is_module_is_section_is_results_folder(project, stages):
    assert sorted(stages) == sorted(STAGES)
    sections = {field.alias or name for name, field in Params.model_fields.items()} - {"seed"}
    assert sections == set(STAGES) | SHARED
    for name, stage in stages.items():
        assert stage.command == f"python -m pipelines.{name}"
        assert f"pipelines.{name}" in {module.name for module in project.commands}
        assert all(covers(Path("results") / name, out) for out in stage.outs), stage.outs


def test_deps_cover_every_file_that_a_stage_imports(project, stages):
    missing = {
        name: lost
        for name, stage in stages.items()
        if (lost := [file for file in code_of(project, name) if not any(covers(dep, file) for dep in stage.deps)])
    }
    assert not missing, "\n".join(f"{name} lacks {', '.join(map(str, lost))}" for name, lost in missing.items())


def code_of(project, stage: str) -> list[Path]:
    """The files with code that a stage's module reaches, but for what only decides where it runs."""
    reached = project.reached(f"pipelines.{stage}", without=ELSEWHERE)
    return sorted(module.path for module in reached.values() if module.has_code)


def test_no_stage_depends_on_code_that_it_does_not_import(project, stages):
    for name, stage in stages.items():
        code = code_of(project, name)
        own = {dep for dep in stage.deps if dep.parts[0] in {"diffusion", "pipelines"}}
        assert {dep for dep in own if not any(covers(dep, file) for file in code)} == set(), name


def test_every_results_folder_that_a_stage_takes_is_made_by_another(stages):
    outs = {out for stage in stages.values() for out in stage.outs}
    for stage in stages.values():
        for dep in stage.deps:
            if dep.parts[0] == "results":
                assert any(covers(out, dep) or covers(dep, out) for out in outs), f"{stage.name}: {dep}"


def test_every_parameter_that_a_stage_lists_exists(stages):
    models = {"params.yaml": Params, "infra/cluster.yaml": Settings}
    for stage in stages.values():
        for file, keys in stage.params.items():
            for key in keys:
                assert has_key(models[file], key.split(".")), f"{stage.name}: {file}: {key}"


def has_key(model: type[BaseModel], names: list[str]) -> bool:
    """Whether the dotted key leads to a field."""
    fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
    if names[0] not in fields:
        return False
    if len(names) == 1:
        return True
    kinds = [fields[names[0]], *typing.get_args(fields[names[0]])]
    return any(isinstance(kind, type) and issubclass(kind, BaseModel) and has_key(kind, names[1:]) for kind in kinds)


def test_every_section_of_the_parameters_changes_some_stage(stages):
    listed = {key.split(".")[0] for stage in stages.values() for key in stage.params["params.yaml"]}
    assert listed == {field.alias or name for name, field in Params.model_fields.items()}


@pytest.mark.parametrize(
    ("key", "there"),
    [
        ("train", True),
        ("train.steps", True),
        ("register.name", True),
        ("seed", True),
        ("train.speed", False),
        ("seed.x", False),
    ],
)
def test_keys_are_found_by_their_names_in_the_file(key, there):
    assert has_key(Params, key.split(".")) == there
