"""The project as its own tests see it: files, syntax trees, imports."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

PACKAGES = ("diffusion", "pipelines")


@dataclass(frozen=True)
class Module:
    """A Python file of the project's packages."""

    name: str
    """As imported, for example diffusion.process.schedule."""
    path: Path
    """Relative to the project's root."""
    is_package: bool
    """Whether it is an __init__.py."""
    tree: ast.Module

    def imports(self, top_level: bool = False) -> set[str]:
        """Every dotted name it imports, `from a import b` as a and a.b; with `top_level` those that importing it runs.

        Imports for the type checker alone do not count.
        """
        statements = run_on_import(self.tree) if top_level else run_ever(self.tree)
        return {name for statement in statements for name in self._names(statement)}

    def _names(self, statement: ast.AST) -> Iterator[str]:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            base = self._base(statement)
            yield base
            yield from (f"{base}.{alias.name}" for alias in statement.names)

    def _base(self, statement: ast.ImportFrom) -> str:
        """The module after `from`, with leading dots resolved."""
        if not statement.level:
            return statement.module or ""
        parts = self.name.split(".")
        above = parts[: len(parts) - statement.level + self.is_package]
        return ".".join([*above, *([statement.module] if statement.module else [])])

    @property
    def has_code(self) -> bool:
        """Whether it holds anything but docstrings."""
        return any(not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant)) for s in self.tree.body)

    def attributes_of(self, variable: str) -> set[str]:
        """`x` for each `variable.x` in it."""
        return {
            node.attr
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == variable
        }


def run_ever(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below `node` but those for the type checker."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield child
            yield from run_ever(child)


def run_on_import(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported: not in functions, not under `if __name__ == "__main__"`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and any(word in ast.unparse(child.test) for word in ("TYPE_CHECKING", "__main__")):
            continue
        yield child
        yield from run_on_import(child)


@dataclass(frozen=True)
class Project:
    """A folder with the packages in it."""

    root: Path

    @cached_property
    def modules(self) -> dict[str, Module]:
        """All modules of the packages, by name."""
        files = (file for package in PACKAGES for file in sorted((self.root / package).rglob("*.py")))
        return {module.name: module for module in map(self._module, files)}

    def _module(self, file: Path) -> Module:
        path = file.relative_to(self.root)
        is_package = path.name == "__init__.py"
        parts = path.parent.parts if is_package else path.with_suffix("").parts
        return Module(".".join(parts), path, is_package, ast.parse(file.read_text(), str(path)))

    def imported(self, module: Module, top_level: bool = False) -> set[str]:
        """The project's modules that importing this one loads directly, with the packages they are in."""
        names = {name for name in module.imports(top_level) if name in self.modules}
        return {parent for name in names for parent in _with_parents(name)}

    def reached(self, name: str, top_level: bool = False, without: Collection[str] = ()) -> dict[str, Module]:
        """The module, all that it imports, all that those import, and so on; with files they name as text.

        Args:
            without: modules that are left out, with what only they import.
        """
        found: dict[str, Module] = {}
        waiting = set(_with_parents(name))
        while waiting:
            module = self.modules[waiting.pop()]
            found[module.name] = module
            waiting |= (self.imported(module, top_level) | self._named_files(module)) - {*found, *without}
        return found

    def _named_files(self, module: Module) -> set[str]:
        """Modules that this one names as a file (MLflow loads a model's code so), not as an import."""
        texts = {n.value for n in ast.walk(module.tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        paths = {Path(text) for text in texts if text.endswith(".py") and " " not in text}
        files = {path for text in paths for path in (text, module.path.parent / text)}
        return {other.name for other in self.modules.values() if other.path in files}

    @cached_property
    def commands(self) -> list[Module]:
        """The modules that a person or DVC runs: `python -m NAME`."""
        return [module for module in self.modules.values() if "if __name__ == '__main__':" in ast.unparse(module.tree)]

    @cached_property
    def files(self) -> list[Path]:
        """Every file that git tracks or would track, relative to the root; without git, every file not hidden."""
        command = ["git", "-C", str(self.root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            names = {Path(name) for name in answer.stdout.split("\0") if name}
        else:
            names = {path.relative_to(self.root) for path in self.root.rglob("*")}
            names = {path for path in names if not any(part.startswith(".") for part in path.parts)}
        return sorted(path for path in names if (self.root / path).is_file())

    def python_files(self) -> dict[Path, ast.Module]:
        """Every Python file with its syntax tree, tests included."""
        paths = [path for path in self.files if path.suffix == ".py"]
        return {path: ast.parse((self.root / path).read_text(), str(path)) for path in paths}

    def text(self, path: str) -> str:
        """The content of a file of the project."""
        return (self.root / path).read_text()


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: length + 1]) for length in range(len(parts))]


@pytest.fixture(scope="session")
def project() -> Project:
    """This project."""
    return Project(Path(__file__).resolve().parents[2])


@pytest.fixture
def project_at() -> Callable[[Path], Project]:
    """A project in another folder."""
    return Project
