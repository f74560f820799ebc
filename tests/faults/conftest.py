"""One undisturbed run to compare with, a fresh copy for each fault, and the table at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.project import Project
from tests.faults.harness import FaultLab, Outcome, copy_of, template

_rows: list[Row] = []
COMPARED = ("digest", "model", "metrics")


@dataclass
class Row:
    """A line of the table."""

    fault: str
    expected: str
    seen: str = "did not end"
    lost_s: float | None = None


@dataclass(frozen=True)
class Calm:
    """The undisturbed run."""

    outcome: Outcome
    seconds: float


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return template(tmp_path_factory.mktemp("faults") / "template")


@pytest.fixture(scope="session")
def calm(base: Project, tmp_path_factory: pytest.TempPathFactory) -> Calm:
    lab = copy_of(base, tmp_path_factory.mktemp("calm") / "project")
    outcome = lab.finish()
    assert outcome.skipped == ()
    return Calm(outcome, lab.seconds)


@pytest.fixture
def lab(base: Project, tmp_path: Path) -> Iterator[FaultLab]:
    lab = copy_of(base, tmp_path / "project")
    yield lab
    for attempt in lab.attempts:
        lab.clear(attempt)


class Table:
    """Takes what was expected of a fault, and what was seen of it."""

    def __init__(self, calm: Calm) -> None:
        self.calm = calm

    def expect(self, fault: str, expected: str) -> Row:
        """Begin a line; it stands in the table also where the test fails."""
        _rows.append(Row(fault, expected))
        return _rows[-1]

    def same_bits(self, row: Row, lab: FaultLab, outcome: Outcome, seen: str) -> None:
        """Compare with the undisturbed run at zero tolerance, and end the line."""
        row.lost_s, wanted = lab.seconds - self.calm.seconds, self.calm.outcome
        different = [name for name in COMPARED if getattr(outcome, name) != getattr(wanted, name)]
        row.seen = f"{seen}; {'same bits' if not different else 'OTHER ' + ', '.join(different)}"
        for name in COMPARED:
            assert getattr(outcome, name) == getattr(wanted, name), name


@pytest.fixture
def table(calm: Calm) -> Table:
    return Table(calm)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table, in Markdown."""
    if not _rows:
        return
    write = terminalreporter.write_line
    write("")
    write("| fault | expected | seen | seconds lost |")
    write("|---|---|---|---|")
    for row in _rows:
        lost = "" if row.lost_s is None else f"{max(row.lost_s, 0):.0f}"
        write(f"| {row.fault} | {row.expected} | {row.seen} | {lost} |")
    write(time.strftime("%Y-%m-%d %H:%M"))
