"""What came out of a sweep: its versions, best first, and those that the test cannot tell from the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.comparison.grids import number
from pipelines.comparison.measurement import Measurement
from pipelines.comparison.metrics import metrics_of
from pipelines.comparison.verdict import Incomparable, Says, judge
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
        return float(self.measurement.content["bits_per_dim"]["total"])


def rows(finished: Sequence[tuple[Trial, Outcome]], settings: Settings) -> list[Row]:
    """The trials with what was measured of them, the lowest bound first.

    Raises:
        TrackingError: a version is gone from the registry, or this does not answer.
    """
    from pipelines.tracking.fetch import chosen, known_versions
    from pipelines.tracking.measurements import measurements

    names = {outcome.name for _, outcome in finished}
    known = {name: known_versions(settings, name) for name in names}
    found = [
        Row(trial, outcome, measurements(chosen(known[outcome.name], str(outcome.version), outcome.name), settings)[0])
        for trial, outcome in finished
    ]
    return sorted(found, key=lambda row: row.bound)


def table(found: Sequence[Row]) -> Table:
    """One line for each trial."""
    from rich.table import Table

    keys = list(dict.fromkeys(key for row in found for key in row.trial.values))
    metric = next(iter(distances(found[0].measurement.content)), "distance")
    made = Table(header_style="bold", caption="≈ not distinguishable from the best in bits per dimension (95%)")
    for head in ("version", *keys, "bits/dim", "", metric):
        made.add_column(head, justify="left" if head in ("version", "") else "right")
    for row in found:
        values = [_text(row.trial.values.get(key)) for key in keys]
        bits = row.measurement.content["bits_per_dim"]
        name = str(row.outcome.version)
        made.add_row(
            name, *values, number(bits["total"], bits["total_se"]), mark(found[0], row), _distance(row, metric)
        )
    return made


def mark(best: Row, row: Row) -> str:
    """`best`, `≈` if the paired test cannot tell it from that, `?` if they were measured differently, or nothing."""
    if row is best:
        return "best"
    metrics = metrics_of([best.measurement, row.measurement])
    total = next(metric for metric in metrics if metric.name == "bits_per_dim.total")
    verdict = judge(total, best.measurement, row.measurement)
    if isinstance(verdict, Incomparable):
        return "?"
    return "≈" if verdict and verdict.says is Says.SAME else ""


def _distance(row: Row, metric: str) -> str:
    found = row.measurement.content.get(metric)
    return number(found["value"], found["value_se"]) if found else ""


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
