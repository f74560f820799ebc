"""Better, worse or not distinguishable, with the probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from diffusion.evaluation import Difference, Measured, paired, unpaired
from pipelines.comparison.cards import differing_fields
from pipelines.comparison.measurement import Measurement, together
from pipelines.comparison.metrics import LEVEL, Metric

NEGLIGIBLE = 1e-5
"""Of the number: smaller differences are the rounding of another device or batch size, whatever their error."""


class Says(StrEnum):
    """What is said of the second."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "not distinguishable"


@dataclass(frozen=True)
class Verdict:
    """The second of two against the first."""

    says: Says
    difference: Difference
    """The second's number less the first's."""
    probability: float
    """That the second is truly better."""
    pairs: int | None = None
    """Images on which both were measured, where these were compared one by one."""

    def __str__(self) -> str:
        return f"{self.says} ({likely(self.probability)})"


@dataclass(frozen=True)
class Incomparable:
    """Two measurements that say nothing of one another."""

    fields: tuple[str, ...]
    """The fields of their cards that differ."""

    def __str__(self) -> str:
        return f"not comparable: another {', '.join(self.fields)}"


def likely(probability: float) -> str:
    """`P = 61.2%`; one that rounds to certainty is not called that."""
    if 0.001 <= probability <= 0.999:
        return f"P = {probability:.1%}"
    return "P > 99.9%" if probability > 0.5 else "P < 0.1%"


def verdict_of(
    difference: Difference, good: int, size: float, level: float = LEVEL, pairs: int | None = None
) -> Verdict:
    """What a difference means.

    Args:
        good: 1 if more is better, -1 if less is.
        size: of the numbers themselves, by which it is judged what is rounding.
        level: of the test, two-sided.
    """
    if abs(difference.value) <= NEGLIGIBLE * abs(size):
        return Verdict(Says.SAME, difference, 0.5, pairs)
    probability = difference.probability if good > 0 else 1 - difference.probability
    tail = (1 - level) / 2
    says = Says.BETTER if probability > 1 - tail else Says.WORSE if probability < tail else Says.SAME
    return Verdict(says, difference, probability, pairs)


def judge(
    metric: Metric, first: Measurement, second: Measurement, level: float = LEVEL, *, pairs: bool = True
) -> Verdict | Incomparable | None:
    """The second measurement against the first; None where one lacks the number or its error.

    Means over the same images are compared image by image: what makes an image dear to both cancels.

    Args:
        pairs: False for a weaker test by the two standard errors, where the tables of images cannot be had.

    Raises:
        TrackingError: they cannot.
    """
    values = [metric.value(one) for one in (first, second)]
    errors = [metric.error(one) for one in (first, second)]
    if None in values or None in errors or not metric.judged:
        return None
    if fields := differing_fields(first.card(metric.quantity), second.card(metric.quantity)):
        return Incomparable(tuple(fields))
    size = max(abs(value) for value in values if value is not None)
    if pairs and metric.paired and (both := together(first, second, metric.key)) is not None:
        return verdict_of(paired(both["first"], both["second"]), metric.good, size, level, len(both))
    a, b = (Measured(value, error) for value, error in zip(values, errors, strict=True))  # type: ignore[arg-type]
    return verdict_of(unpaired(a, b), metric.good, size, level)


def matched(
    quantity: str, first: Sequence[Measurement], second: Sequence[Measurement]
) -> tuple[Measurement, Measurement] | None:
    """The newest measurements of two models that may be compared; else the newest ones; None where one has none."""
    pairs = [(a, b) for a in first if a.card(quantity) for b in second if b.card(quantity)]
    pairs.sort(key=lambda pair: -min(pair[0].when_ms, pair[1].when_ms))
    same = [pair for pair in pairs if not differing_fields(pair[0].card(quantity), pair[1].card(quantity))]
    return next(iter(same or pairs), None)
