"""NOTATION.md names what is in the code: every symbol, in the file it says, with a test that exists."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "NOTATION.md"
COLUMNS = ["symbol", "name in code", "shape", "range", "equation", "file", "test"]


@dataclass(frozen=True)
class Row:
    symbol: str
    name: str
    shape: str
    range: str
    equation: str
    file: str
    test: str


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def rows() -> Iterator[Row]:
    """The rows of the table under the head that has these columns."""
    lines = iter(PAGE.read_text().splitlines() if PAGE.exists() else [])
    for line in lines:
        if line.startswith("|") and cells(line) == COLUMNS:
            next(lines)
            break
    for line in lines:
        if not line.startswith("|"):
            return
        yield Row(*cells(line))


ROWS = list(rows())

if not PAGE.exists():
    pytest.skip("NOTATION.md is not written yet", allow_module_level=True)


def test_the_table_is_found():
    assert [field.name for field in fields(Row)] == [column.split()[0] for column in COLUMNS]
    assert len(ROWS) > 20


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.symbol)
def test_the_symbol_is_where_the_table_says(project, row):
    assert re.fullmatch(r"`[\w.]+`", row.name), "one name in backticks"
    name = row.name.strip("`")
    assert name.rpartition(".")[2] in names_in(ROOT / row.file)
    if "." in name:
        resolve(name, project.modules)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.symbol)
def test_the_symbols_test_exists_and_is_about_it(row):
    path = ROOT / row.test
    assert path.is_file()
    assert path.name.startswith("test_")


@pytest.mark.parametrize("line", [line for line in PAGE.read_text().splitlines() if "`" in line])
def test_names_elsewhere_on_the_page_exist(line):
    """In backticks: a call, an expression or a name, whose first name is somewhere in the core."""
    for text in re.findall(r"`([^`]+)`", line):
        first = re.match(r"[A-Za-z_]\w*", text)
        assert first is None or any(first[0] in names_in(file) for file in ROOT.glob("diffusion/**/*.py")), text


def names_in(file: Path) -> set[str]:
    """Every name that is defined or used in a Python file."""
    found = {file.stem, *file.relative_to(ROOT).with_suffix("").parts}
    for node in ast.walk(ast.parse(file.read_text())):
        for field in ("id", "attr", "name", "arg"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                found.add(value)
    return found


def resolve(name: str, modules: Collection[str]) -> object:
    """The thing that a dotted name means; fields of dataclasses count, though the class has no such attribute."""
    module = max((module for module in modules if name.startswith(f"{module}.")), key=len)
    thing = importlib.import_module(module)
    for part in name.removeprefix(f"{module}.").split("."):
        annotated = getattr(thing, "__annotations__", {})
        thing = annotated[part] if part in annotated and not hasattr(thing, part) else getattr(thing, part)
    return thing
