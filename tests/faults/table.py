"""The table at the end: what was done to a run, what was expected, what was seen, and what it cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.end_to_end.project import Project
from tests.faults.harness import FaultLab, Outcome, copy_of

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

    @classmethod
    def of(cls, project: Project, folder: Path) -> Calm:
        """Of a copy of the project in `folder`, on this machine."""
        lab = copy_of(project, folder)
        outcome = lab.finish()
        assert outcome.skipped == ()
        return cls(outcome, lab.seconds)


@dataclass(frozen=True)
class Table:
    """Takes what was expected of a fault, and what was seen of it."""

    calm: Calm
    rows: list[Row]

    def expect(self, fault: str, expected: str) -> Row:
        """Begin a line; it stands in the table also where the test fails."""
        self.rows.append(Row(fault, expected))
        return self.rows[-1]

    def same_bits(self, row: Row, lab: FaultLab, outcome: Outcome, seen: str) -> None:
        """Compare with the undisturbed run at zero tolerance, and end the line."""
        row.lost_s, wanted = lab.seconds - self.calm.seconds, self.calm.outcome
        different = [name for name in COMPARED if getattr(outcome, name) != getattr(wanted, name)]
        row.seen = f"{seen}; {'same bits' if not different else 'OTHER ' + ', '.join(different)}"
        for name in COMPARED:
            assert getattr(outcome, name) == getattr(wanted, name), name


def write_table(rows: Sequence[Row], write: Callable[[str], object]) -> None:
    """In Markdown, line by line; nothing where there are no rows."""
    if not rows:
        return
    write("")
    write("| fault | expected | seen | seconds lost |")
    write("|---|---|---|---|")
    for row in rows:
        lost = "" if row.lost_s is None else f"{max(row.lost_s, 0):.0f}"
        write(f"| {row.fault} | {row.expected} | {row.seen} | {lost} |")
    write(time.strftime("%Y-%m-%d %H:%M"))
