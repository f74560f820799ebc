"""What came out of a sweep: best first what was measured alike, and what the test cannot tell from the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.comparison.cards import differing_fields, field
from pipelines.comparison.grids import number
from pipelines.comparison.measurement import BOUND, Measurement
from pipelines.comparison.metrics import metrics_of
from pipelines.comparison.verdict import Says, Verdict, judge
from pipelines.errors import TrackingError
from pipelines.report.scores import distances
from pipelines.settings import Settings
from pipelines.sweeping.place import Outcome
from pipelines.sweeping.space import Trial

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Row:
    """A trial that went through."""

    trial: Trial
    outcome: Outcome
    measurement: Measurement
    """The newest one of its version."""

    @property
    def bound(self) -> float:
        """Bits per dimension."""
        return float(self.measurement.content[BOUND]["total"])


@dataclass(frozen=True)
class Group:
    """Trials whose bounds were measured in one way."""

    rows: tuple[Row, ...]
    """The lowest bound first."""
    differs: str = ""
    """How they were measured, where that is not as in the largest group: `images 500`."""


def measured(finished: Sequence[tuple[Trial, Outcome]], settings: Settings) -> tuple[list[Row], list[Outcome]]:
    """The trials with what was measured of them, and those whose versions have no measurement.

    Raises:
        TrackingError: a version is gone from the registry, or this does not answer.
    """
    from pipelines.tracking.fetch import chosen, known_versions
    from pipelines.tracking.measurements import measurements

    names = {outcome.name for _, outcome in finished}
    known = {name: known_versions(settings, name) for name in names}
    rows, without = [], []
    for trial, outcome in finished:
        found = measurements(chosen(known[outcome.name], str(outcome.version), outcome.name), settings)
        if found:
            rows.append(Row(trial, outcome, found[0]))
        else:
            without.append(outcome)
    return rows, without


def grouped(rows: Sequence[Row]) -> list[Group]:
    """Only what was measured in one way is ranked together; the largest group first."""
    found: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: row.bound):
        group = next((group for group in found if not _otherwise(group[0], row, BOUND)), None)
        if group:
            group.append(row)
        else:
            found.append([row])
    found.sort(key=lambda group: -len(group))
    return [Group(tuple(group), _differs(found[0][0], group[0])) for group in found]


def table(group: Group) -> Table:
    """One line for each trial."""
    from rich.table import Table

    found = group.rows
    keys = list(dict.fromkeys(key for row in found for key in row.trial.values))
    metric = next(iter(distances(found[0].measurement.content)), "distance")
    title = f"measured otherwise, {group.differs}" if group.differs else None
    made = Table(title=title, title_justify="left", header_style="bold", caption=_caption(found, metric))
    for head in ("version", *keys, "bits/dim", "", metric):
        made.add_column(head, justify="left" if head in ("version", "") else "right", overflow="fold")
    for row in found:
        values = [_text(row.trial.values.get(key)) for key in keys]
        bits = row.measurement.content[BOUND]
        name = str(row.outcome.version)
        shown = number(bits["total"], bits["total_se"])
        made.add_row(name, *values, shown, mark(found[0], row), _distance(found[0], row, metric))
    return made


def mark(best: Row, row: Row) -> str:
    """`best`, `≈` if it cannot be told from that, or nothing: image by image, or by the errors if a table is away."""
    if row is best:
        return "best"
    metrics = metrics_of([best.measurement, row.measurement])
    total = next(metric for metric in metrics if metric.name == f"{BOUND}.total")
    try:
        verdict = judge(total, best.measurement, row.measurement)
    except TrackingError:
        verdict = judge(total, best.measurement, row.measurement, pairs=False)
    return "≈" if isinstance(verdict, Verdict) and verdict.says is Says.SAME else ""


def _otherwise(best: Row, row: Row, quantity: str) -> list[str]:
    """The fields in which the two were not measured, or drawn, in the same way."""
    return differing_fields(best.measurement.card(quantity), row.measurement.card(quantity))


def _differs(first: Row, row: Row) -> str:
    card = row.measurement.card(BOUND)
    return ", ".join(f"{name} {field(card, name)}" for name in _otherwise(first, row, BOUND))


def _caption(found: Sequence[Row], metric: str) -> str:
    text = "≈ not distinguishable from the best in bits per dimension (95%)"
    there = [row for row in found if metric in row.measurement.content]
    fields = dict.fromkeys(name for row in there for name in _otherwise(found[0], row, metric))
    return f"{text}\n? not to be compared with the first line's {metric}: {', '.join(fields)}" if fields else text


def _distance(best: Row, row: Row, metric: str) -> str:
    found = row.measurement.content.get(metric)
    if not found:
        return ""
    return number(found["value"], found["value_se"]) + ("?" if _otherwise(best, row, metric) else "")


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
