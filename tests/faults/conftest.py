"""One undisturbed run to compare with, a fresh copy for each fault, and the table at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.project import Project
from tests.faults.harness import FaultLab, copy_of, template
from tests.faults.table import Calm, Row, Table, write_table

_rows: list[Row] = []


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return template(tmp_path_factory.mktemp("faults") / "template")


@pytest.fixture(scope="session")
def calm(base: Project, tmp_path_factory: pytest.TempPathFactory) -> Calm:
    return Calm.of(base, tmp_path_factory.mktemp("calm") / "project")


@pytest.fixture
def lab(base: Project, tmp_path: Path) -> Iterator[FaultLab]:
    lab = copy_of(base, tmp_path / "project")
    yield lab
    for attempt in lab.attempts:
        lab.clear(attempt)


@pytest.fixture
def table(calm: Calm) -> Table:
    return Table(calm, _rows)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table, in Markdown."""
    write_table(_rows, terminalreporter.write_line)
