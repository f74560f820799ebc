"""A stage lists every section of the parameters that it reads: one that is missing would change results unnoticed.

Modules are too coarse for this, since one that a stage imports for one function may read sections in another. So names
are followed from the stage's `main` through the functions and classes that it uses, and that those use.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache

import pytest

from pipelines.params import Params, read_yaml

SECTIONS = {name: field.alias or name for name, field in Params.model_fields.items()}
"""Names in the file by names in the code."""

CHANGES_NO_RESULT = ("pipelines.tracking", "pipelines.report", "pipelines.params")
"""Parts that read parameters to show them."""

Definition = tuple[str, str]
"""A module and the name of a function or class in it."""


def test_every_section_that_a_stage_reads_is_among_its_parameters(project):
    stages = read_yaml(project.root / "dvc.yaml")["stages"]
    unlisted = {}
    for name, stage in stages.items():
        listed = {key.split(".")[0] for key in stage["params"] if isinstance(key, str)}
        read = sections_read(project, f"pipelines.{name}")
        if set(read) - listed:
            unlisted[name] = {section: where for section, where in read.items() if section not in listed}
    assert not unlisted


def sections_read(project, command: str) -> dict[str, str]:
    """The sections that a command's `main` comes to read, and a place that reads each."""
    return {
        SECTIONS[attribute]: f"{module}.{name}"
        for module, name in sorted(used_by(project, (command, "main")))
        if not module.startswith(CHANGES_NO_RESULT)
        for attribute in attributes_of_params(definitions(project.modules[module].tree)[name])
        if attribute in SECTIONS
    }


def attributes_of_params(node: ast.AST) -> Iterator[str]:
    """x for params.x and for anything.params.x."""
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and ast.unparse(part.value).rpartition(".")[2] == "params":
            yield part.attr


def used_by(project, start: Definition) -> set[Definition]:
    """All functions, classes and module-level values that a definition comes to use, itself included."""
    found: set[Definition] = set()
    waiting = {start}
    while waiting:
        module, name = definition = waiting.pop()
        found.add(definition)
        node = definitions(project.modules[module].tree)[name]
        resolved = {resolve(project, module, text) for text in names_in(node)}
        waiting |= {other for other in resolved if other} - found
    return found


@cache
def definitions(tree: ast.Module) -> dict[str, ast.stmt]:
    """What a module defines at its top level."""
    found: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update({target.id: node for target in targets if isinstance(target, ast.Name)})
    return found


def names_in(node: ast.AST) -> set[str]:
    """Names and dotted names."""
    return {ast.unparse(part) for part in ast.walk(node) if isinstance(part, ast.Name | ast.Attribute)}


def resolve(project, module: str, text: str) -> Definition | None:
    """The definition in the project that a name in a module means."""
    first, *rest = text.split(".")
    tree = project.modules[module].tree
    if first in definitions(tree):
        return module, first
    target = imported(tree).get(first)
    if target is None:
        return None
    parts = [*target.split("."), *rest]
    for length in range(len(parts) - 1, 0, -1):
        owner = ".".join(parts[:length])
        if owner in project.modules and owner != module:
            return resolve(project, owner, ".".join(parts[length:]))
    return None


@cache
def imported(tree: ast.Module) -> dict[str, str]:
    """What each name that a module imports, anywhere in it, stands for."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(
                {a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0] for a in node.names}
            )
        elif isinstance(node, ast.ImportFrom):
            found.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
    return found


def test_names_are_followed_through_functions_classes_values_and_packages(tmp_path, project_at):
    files = {
        "pipelines/__init__.py": "",
        "pipelines/stage_a.py": """
from pipelines.inner import draw

def main():
    from pipelines import other as o
    o.use(params)
    draw(params.sample)
    TABLE["x"]()

def unused():
    params.evaluate

def by_value():
    self.params.train

TABLE = {"x": by_value}
""",
        "pipelines/other.py": """
import pipelines.far

def use(params):
    return pipelines.far.Thing(params)

def unused(params):
    params.register_
""",
        "pipelines/far.py": """
class Thing:
    def later(self):
        return self.params.process.T
""",
        "pipelines/inner/__init__.py": "from pipelines.inner.drawing import draw",
        "pipelines/inner/drawing.py": """
def draw(params):
    params.model
    recursive()

def recursive():
    draw(0)
""",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    read = sections_read(project_at(tmp_path), "pipelines.stage_a")
    assert read == {
        "sample": "pipelines.stage_a.main",
        "train": "pipelines.stage_a.by_value",
        "process": "pipelines.far.Thing",
        "model": "pipelines.inner.drawing.draw",
    }


@pytest.mark.parametrize(
    ("code", "found"), [("params.train", ["train"]), ("a.params.seed", ["seed"]), ("train.params", [])]
)
def test_reads_are_found(code, found):
    assert list(attributes_of_params(ast.parse(code))) == found
