"""Imports point one way, and nothing heavy is imported before it is needed."""

import ast
import os
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest

BELOW = {
    "diffusion.process": set(),
    "diffusion.models": {"diffusion.process"},
    "diffusion.interop": {"diffusion.process", "diffusion.models"},
    "diffusion.samplers": {"diffusion.process"},
    "diffusion.likelihood": {"diffusion.process"},
    "diffusion.training": {"diffusion.process", "diffusion.models", "diffusion.samplers", "diffusion.likelihood"},
    "diffusion.drawing": {"diffusion.process", "diffusion.models", "diffusion.samplers", "diffusion.training"},
    "diffusion.evaluation": {"diffusion.process", "diffusion.models", "diffusion.samplers", "diffusion.likelihood"},
}
"""What each part of the core may import, besides itself."""

FOREIGN_TO_DIFFUSION = {"ray", "mlflow", "dvc", "pipelines"}
HEAVY = {"ray", "mlflow", "matplotlib", "sklearn", "cleanfid", "torchvision"}


def root_of(name: str) -> str:
    return name.partition(".")[0]


def part_of(name: str) -> str:
    """diffusion.process for diffusion.process.schedule."""
    return ".".join(name.split(".")[:2])


def test_the_core_knows_nothing_of_the_pipelines_and_their_tools(project):
    wrong = {
        f"{module.path} imports {name}"
        for module in project.modules.values()
        if root_of(module.name) == "diffusion"
        for name in module.imports()
        if root_of(name) in FOREIGN_TO_DIFFUSION
    }
    assert not wrong


def test_inside_the_core_imports_point_downwards(project):
    wrong = {
        f"{module.path} imports {name}"
        for module in project.modules.values()
        if root_of(module.name) == "diffusion" and module.name != "diffusion"
        for name in module.imports()
        if root_of(name) == "diffusion" and part_of(name) not in {part_of(module.name), "diffusion"}
        if part_of(name) not in BELOW.get(part_of(module.name), set())
    }
    assert not wrong


def test_every_part_of_the_core_has_its_place_in_the_order(project):
    parts = {part_of(name) for name in project.modules if root_of(name) == "diffusion"} - {"diffusion"}
    assert parts <= set(BELOW)


def test_modules_do_not_import_each_other_in_a_circle_while_they_load(project):
    graph = {name: module.imports(top_level=True) & set(project.modules) for name, module in project.modules.items()}
    for names in graph.values():
        names -= {package for package in names for name in names if name.startswith(f"{package}.")}
    TopologicalSorter(graph).prepare()  # CycleError names the circle


def test_heavy_libraries_are_imported_where_they_are_needed(project):
    wrong = {
        f"{module.path} imports {name} when it is imported"
        for module in project.modules.values()
        if root_of(module.name) == "pipelines" and not loaded_by_mlflow(module)
        for name in module.imports(top_level=True)
        if root_of(name) in HEAVY
    }
    assert not wrong


def loaded_by_mlflow(module) -> bool:
    """Whether it is a model's code, which MLflow runs as a file and which hands its model over while it loads."""
    return any(isinstance(s, ast.Expr) and "set_model(" in ast.unparse(s) for s in module.tree.body)


def test_no_module_imports_a_models_code(project):
    wrong = {
        f"{module.path} imports {name}"
        for module in project.modules.values()
        for name in module.imports()
        if name in project.modules and loaded_by_mlflow(project.modules[name])
    }
    assert not wrong


def test_commands_import_torch_where_they_need_it(project):
    wrong = {
        f"{module.path} imports {name} when it is imported"
        for module in project.commands
        for name in module.imports(top_level=True)
        if root_of(name) == "torch"
    }
    assert not wrong


def test_importing_a_command_loads_nothing_heavy(project):
    """One process per command: what one has loaded, the next would find."""
    environment = {**os.environ, "PYTHONPATH": str(project.root)}
    slow = HEAVY | {"torch"}
    wrong = {}
    for module in project.commands:
        code = f"import sys, {module.name}; print(*({slow!r} & set(sys.modules)))"
        answer = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=project.root, capture_output=True, text=True, check=False
        )
        if answer.returncode or answer.stdout.strip():
            wrong[module.name] = answer.stdout.strip() or answer.stderr.strip().splitlines()[-1]
    assert not wrong


@pytest.mark.parametrize("name", ["pipelines.params", "pipelines.stage"])
def test_the_command_scan_finds_commands(project, name):
    """`pipelines.params` is one; `pipelines.stage`, which every command runs, is none."""
    assert (name in {module.name for module in project.commands}) == (name == "pipelines.params")
