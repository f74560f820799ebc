"""The digest of source code by what it does: comments, docstrings and layout do not count.

A file is read as its syntax tree; every statement that is only a string (docstrings, and the strings under a field that
document it) is left out, and so are positions. What remains is written as nested lists that hold each node's name and
its non-empty fields. `ast.dump` would not do: it changes its notation between Python versions, as 3.13 did.

The same file can still have two digests under two minor versions of Python where their parsers build different trees:
constants inside f-strings (changed in 3.12), and syntax that was given a new node. The run then starts anew; it is
never mistaken for another.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipelines.runs.canonical import canonical_json
from pipelines.runs.digest import digest, sha256_hex


def source_digest(paths: Sequence[Path]) -> str:
    """SHA-256 (hex) of all Python files in `paths`: packages (folders, with all below them) and single files.

    Files are named relative to their outermost package, so the order of `paths`, overlaps between them and the folder
    that the project is in do not matter.

    Raises:
        ValueError: a path does not exist or holds no Python file.
        SyntaxError: a file is not Python.
    """
    return digest(sorted({(_name(file), _file_digest(file)) for path in paths for file in _python_files(path)}))


def _python_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path.resolve()]
    files = [file for file in path.resolve().rglob("*.py") if not _hidden(file.relative_to(path.resolve()))]
    if not files:
        raise ValueError(f"no Python files at {path}: name a package of this project or a file in one")
    return files


def _hidden(file: Path) -> bool:
    """Whether it is an editor's copy, as in .ipynb_checkpoints."""
    return any(part.startswith(".") for part in file.parts)


def _name(file: Path) -> str:
    """`diffusion/process/schedule.py`, wherever the project is."""
    top = file.parent
    while (top / "__init__.py").exists():
        top = top.parent
    return file.relative_to(top).as_posix()


def _file_digest(file: Path) -> str:
    return _digest_of(file.read_bytes(), str(file))


@lru_cache(maxsize=1024)
def _digest_of(source: bytes, name: str) -> str:
    """Of one file; remembered, since several digests of a stage cover the same files."""
    return sha256_hex(canonical_json(_normal(ast.parse(source, filename=name))).encode())


def _normal(node: Any) -> Any:
    """A syntax tree as nested lists: [class name, [field, value], ..] with empty fields left out."""
    if isinstance(node, ast.Constant):
        return ["Constant", ascii(node.value)]
    if isinstance(node, ast.AST):
        fields = ([name, _normal(value)] for name, value in ast.iter_fields(node))
        return [type(node).__name__, *(field for field in fields if field[1] not in (None, []))]
    if isinstance(node, list):
        return [_normal(part) for part in node if not _only_a_string(part)]
    return node


def _only_a_string(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
