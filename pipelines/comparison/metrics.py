"""The numbers that are compared: where each stands, what its error is, and in which direction it is good."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from typing import Any

from pipelines.comparison.measurement import BOUND, Measurement
from pipelines.report.scores import distances

LEVEL = 0.95
"""Of intervals, and of two-sided tests: of equal models, one in twenty is called better or worse."""


def interval(value: float, error: float, degrees: float = inf) -> tuple[float, float]:
    """Where the true number is, by Student's t with so many degrees of freedom; infinite: the error counts as known."""
    from scipy.special import stdtrit

    half = float(stdtrit(degrees, (1 + LEVEL) / 2)) * error
    return value - half, value + half


@dataclass(frozen=True)
class Metric:
    """One number of an evaluation."""

    quantity: str
    """Whose card it has: `bits_per_dim`, `fid`, `fd_classifier` .."""
    key: str
    """Its name there."""
    label: str
    """For a table; those that belong to the one above are indented."""
    good: int = -1
    """-1: lower is better; 1: higher is."""
    paired: bool = False
    """Whether it is a mean over images that other models are measured on too: a column of the table of images."""
    judged: bool = True
    """Whether it speaks of the model at all."""

    @property
    def name(self) -> str:
        """For programs: `bits_per_dim.total`, `fid.value`."""
        return f"{self.quantity}.{self.key}"

    def value(self, measurement: Measurement) -> float | None:
        """The number."""
        return self._at(measurement, self.key)

    def error(self, measurement: Measurement) -> float | None:
        """Its standard error; None where none is known."""
        if self.key == "precision" and (p := self.value(measurement)) is not None:
            n = measurement.card(self.quantity)["scoring"]["paired"]  # each sample lies in the reference's balls or not
            return sqrt(max(p * (1 - p), 1 / n) / n)
        return self._at(measurement, f"{self.key}_se")

    def interval(self, measurement: Measurement) -> tuple[float, float] | None:
        """The 95% interval: the bootstrap's where there is one, else by the standard error."""
        ends = [self._at(measurement, self.key.removesuffix("value") + name) for name in ("low", "high")]
        if self.key.endswith("value") and ends[0] is not None and ends[1] is not None:
            return ends[0], ends[1]
        value, error = self.value(measurement), self.error(measurement)
        if value is None or error is None:
            return None
        low, high = interval(value, error)
        return (max(low, 0.0), min(high, 1.0)) if self.key == "precision" else (low, high)

    def _at(self, measurement: Measurement, path: str) -> float | None:
        found: Any = measurement.content.get(self.quantity, {})
        for part in path.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return None if found is None else float(found)


BOUND_TERMS = (
    Metric(BOUND, "total", "bits/dim", paired=True),
    Metric(BOUND, "L_T", "  L_T", paired=True),
    Metric(BOUND, "L_t_sum", "  L_t summed", paired=True),
    Metric(BOUND, "L_0", "  L_0", paired=True),
)


def metrics_of(measurements: list[Measurement]) -> list[Metric]:
    """All that any of these has, the bound first."""
    names = sorted({name for measurement in measurements for name in distances(measurement.content)})
    of_bound = BOUND_TERMS if any(BOUND in measurement.content for measurement in measurements) else ()
    return [*of_bound, *(metric for name in names for metric in _of_distance(name))]


def _of_distance(name: str) -> list[Metric]:
    return [
        Metric(name, "value", name),
        Metric(name, "infinity", "  infinitely many"),
        Metric(name, "kid", "  KID"),
        Metric(name, "precision", "  precision", good=1),
        Metric(name, "recall", "  recall", good=1),
        Metric(name, "held_out.value", "  of real images", judged=False),
    ]
