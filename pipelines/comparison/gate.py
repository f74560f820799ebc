"""Whether a version becomes champion: what the gate of params.yaml demands, and what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Literal

from pipelines.comparison.cards import STAYS, not_measurable
from pipelines.comparison.measurement import Measurement
from pipelines.comparison.metrics import BOUND_TERMS, Metric
from pipelines.comparison.verdict import Incomparable, Says, judge, likely, matched, verdict_of
from pipelines.report.scores import distances
from pipelines.sections import GateParams


@dataclass(frozen=True)
class Check:
    """One demand."""

    name: str
    passed: bool
    found: str
    """For a person, with its numbers rounded."""
    comparable: bool = True
    measurable: bool = True
    """Whether they would be comparable once both were measured in one way."""
    numbers: dict[str, float | None] | None = None
    """For programs, where two versions were compared: `ours`, `theirs`, their `difference` with its `standard_error`,
    the `gain` that is demanded, the `probability` that ours is better by it, and on how many `pairs` of images; null
    where they were not compared image by image, or a number is not finite."""


@dataclass(frozen=True)
class Decision:
    """The gate's answer, as it is stored on the version."""

    champion: bool
    against: int | None
    """The version that it was compared with."""
    checks: tuple[Check, ...]

    @property
    def reason(self) -> str:
        """On one line: what decided."""
        if self.champion:
            return "; ".join(check.found for check in self.checks if check.name in ("bound", "distance", "first"))
        return "; ".join(check.found for check in self.checks if not check.passed)

    @property
    def comparable(self) -> bool:
        """Whether all that was to be compared was measured in the same way."""
        return all(check.comparable for check in self.checks)

    @property
    def measurable(self) -> bool:
        """Whether all that is not would be once both were measured in one way."""
        return all(check.measurable for check in self.checks)


@dataclass(frozen=True)
class Champion:
    """The version that is to be beaten."""

    number: int
    measurements: Sequence[Measurement]
    former: bool = False
    """It was champion last, and nobody is now."""

    def __str__(self) -> str:
        return f"{'former ' if self.former else ''}champion {self.number}"


def decide(measured: Measurement, current: Champion | None, gate: GateParams, *, first: bool = True) -> Decision:
    """What the gate says of a model that was measured so.

    Args:
        current: what it must beat; None: there is nothing.
        first: with nothing to beat, only the absolute demands count; else a person must decide.

    Raises:
        TrackingError: a table of images cannot be had: a weaker test would be another gate.
    """
    speed = measured.sampling.get("per_second")
    checks = [_finite(measured), _enough(measured, gate), *_fast_enough(speed, gate)]
    if current is None:
        found = "the first version" if first else "there is no champion to compare with"
        checks.append(Check("first", first, found, comparable=first))
    else:
        bound = BOUND_TERMS[0]
        checks += _against("bound", gate.bound, bound, measured, current, gate, gate.min_gain)
        for name in distances(measured.content):
            checks += _against("distance", gate.distance, Metric(name, "value", name), measured, current, gate)
        if gate.bound == gate.distance == "off":
            checks.append(Check("bound", True, f"nothing is demanded against {current}"))
    passed = all(check.passed for check in checks)
    return Decision(passed, None if current is None else current.number, tuple(checks))


def _finite(measured: Measurement) -> Check:
    numbers = {f"{quantity}.{name}": value for quantity, name, value in _numbers(measured.content)}
    bad = [name for name, value in numbers.items() if not isfinite(value)]
    return Check("finite", not bad, f"not finite: {', '.join(bad)}" if bad else "all numbers are finite")


def _numbers(content: dict[str, Any]) -> list[tuple[str, str, float]]:
    quantities = {name: value for name, value in content.items() if isinstance(value, dict)}
    return [
        (quantity, name, value)
        for quantity, values in quantities.items()
        for name, value in values.items()
        if isinstance(value, int | float)
    ]


def _enough(measured: Measurement, gate: GateParams) -> Check:
    counts = [int(distance["images"]) for distance in distances(measured.content).values()]
    passed = gate.min_samples == 1 or (bool(counts) and min(counts) >= gate.min_samples)
    found = f"{min(counts, default=0):,} samples, register.gate.min_samples is {gate.min_samples:,}"
    return Check("samples", passed, found)


def _fast_enough(speed: float | None, gate: GateParams) -> list[Check]:
    if gate.min_speed is None:
        return []
    found = "of unknown speed" if speed is None else f"{speed:.3g} images/s"
    passed = speed is not None and speed >= gate.min_speed
    return [Check("speed", passed, f"{found}, register.gate.min_speed is {gate.min_speed:.3g}")]


def _against(
    name: str,
    wanted: Literal["better", "not_worse", "off"],
    metric: Metric,
    measured: Measurement,
    current: Champion,
    gate: GateParams,
    gain: float = 0.0,
) -> list[Check]:
    if wanted == "off":
        return []
    whom = str(current)
    if (pair := matched(metric.quantity, current.measurements, [measured])) is None:
        return [Check(name, False, f"{metric.quantity}: {whom} has none to compare with", comparable=False)]
    verdict = judge(metric, *pair, gate.level)
    if verdict is None:
        return [Check(name, False, f"{metric.quantity}: no standard error to compare with {whom}", comparable=False)]
    if isinstance(verdict, Incomparable):
        fields = ", ".join(verdict.fields)
        found = f"{metric.quantity}: not comparable with {whom}, measured with another {fields}"
        if of_model := not_measurable(verdict.fields):
            found += f" ({STAYS.format(', '.join(of_model))})"
        return [Check(name, False, found, comparable=False, measurable=not of_model)]
    difference, gain = verdict.difference, gain if wanted == "better" else 0.0
    if gain:
        shifted = replace(difference, value=difference.value + gain)
        verdict = verdict_of(shifted, metric.good, 0.0, gate.level, verdict.pairs)
    passed = verdict.says is Says.BETTER or (wanted == "not_worse" and verdict.says is Says.SAME)
    theirs, ours = (metric.value(one) for one in pair)
    by = f" by more than {gain:g}" if gain else ""
    found = f"{metric.label.strip()} {ours:.4g} against {theirs:.4g} of {whom}: {verdict.says}{by}"
    numbers = {
        "ours": ours,
        "theirs": theirs,
        "difference": difference.value,
        "standard_error": difference.standard_error,
        "gain": gain,
        "probability": verdict.probability,
        "pairs": verdict.pairs,
    }
    finite = {key: value if value is not None and isfinite(value) else None for key, value in numbers.items()}
    return [Check(name, passed, f"{found} ({likely(verdict.probability)})", numbers=finite)]
