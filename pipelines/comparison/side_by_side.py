"""Versions, or recipes, in columns; numbers that were measured in one way in rows; a verdict on each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from diffusion.evaluation import welch
from pipelines.comparison.cards import differing_fields, field
from pipelines.comparison.measurement import Measurement
from pipelines.comparison.metrics import LEVEL, Metric, interval, metrics_of
from pipelines.comparison.verdict import Incomparable, Verdict, judge, verdict_of
from pipelines.errors import TrackingError
from pipelines.tracking.registry import Version


@dataclass(frozen=True)
class Entry:
    """A version with what was measured of it, newest first."""

    version: Version
    measurements: Sequence[Measurement]

    def on(self, quantity: str, card: dict[str, object]) -> Measurement | None:
        """Its newest measurement with this card."""
        found = (m for m in self.measurements if m.card(quantity) and not differing_fields(card, m.card(quantity)))
        return next(found, None)


@dataclass(frozen=True)
class Column:
    """One version, or the versions of one recipe."""

    title: str
    entries: tuple[Entry, ...]
    replaced: tuple[Entry, ...] = ()
    """Versions of the recipe that do not count: a later one is the same draw."""


@dataclass(frozen=True)
class Cell:
    """One number of one column."""

    value: float
    error: float | None
    interval: tuple[float, float] | None = None
    """Of 95%."""
    verdict: Verdict | None = None
    """Against the base of its block."""
    versions: int = 1
    """That it is the mean of."""


@dataclass(frozen=True)
class Block:
    """All that was measured with one card."""

    quantity: str
    card: dict[str, object]
    other: tuple[str, ...]
    """The fields in which the card differs from the first block's of this quantity; empty for the first."""
    base: str
    """Title of the column that the others are judged against."""
    rows: tuple[tuple[Metric, dict[str, Cell]], ...]
    """Metric -> title -> cell; a column that was not measured so has none."""
    cards: dict[str, list[dict[str, object]]]
    """Title -> the cards of its measurements, which differ in what is no hindrance."""
    weaker: tuple[str, ...] = ()
    """Why columns could not be compared image by image, where their tables cannot be had."""

    @property
    def titles(self) -> list[str]:
        """The columns that were measured so."""
        return list(dict.fromkeys(title for _, cells in self.rows for title in cells))

    def differs(self) -> str:
        """The fields that set it apart, with their values."""
        return ", ".join(f"{name} {_short(field(self.card, name))}" for name in self.other)


def blocks(columns: Sequence[Column], base: str, *, by_recipe: bool = False, level: float = LEVEL) -> list[Block]:
    """The numbers of all columns: for each quantity the card that most columns share first.

    A measurement that nothing else can be compared with is left out where its version has another one that can.

    Args:
        base: title of the column that the others are judged against, where it was measured in the same way.
        by_recipe: whether a column's versions are draws of one recipe, and their spread is the noise.
        level: of the tests.
    """
    everything = [m for column in columns for entry in column.entries for m in entry.measurements]
    found = []
    for quantity in dict.fromkeys(metric.quantity for metric in metrics_of(everything)):
        groups = _groups(quantity, columns)
        for card, measured in groups:
            judged_against = base if base in measured else next(iter(measured))
            metrics = [metric for metric in metrics_of(everything) if metric.quantity == quantity]
            weaker: list[str] = []
            if by_recipe:
                rows = [(metric, _of_recipes(metric, measured, judged_against, level)) for metric in metrics]
            else:
                rows = [(metric, _of_versions(metric, measured, judged_against, level, weaker)) for metric in metrics]
            other = tuple(differing_fields(groups[0][0], card))
            filled = tuple(row for row in rows if row[1])
            own = {title: [m.card(quantity) for m in of_column] for title, of_column in measured.items()}
            found.append(Block(quantity, card, other, judged_against, filled, own, tuple(dict.fromkeys(weaker))))
    return found


def _groups(quantity: str, columns: Sequence[Column]) -> list[tuple[dict[str, object], dict[str, list[Measurement]]]]:
    """Card -> title -> measurements, one of each version; the card of most columns first."""
    cards: list[dict[str, object]] = []
    for column in columns:
        for entry in column.entries:
            for card in (m.card(quantity) for m in entry.measurements if m.card(quantity)):
                if all(differing_fields(card, known) for known in cards):
                    cards.append(card)
    groups = [(card, _measured(quantity, card, columns)) for card in cards]
    groups.sort(key=lambda group: -sum(len(found) for found in group[1].values()))
    shown: set[str] = set()
    kept = []
    for card, measured in groups:
        if not set(measured) <= shown:
            kept.append((card, measured))
            shown |= set(measured)
    return kept


def _measured(quantity: str, card: dict[str, object], columns: Sequence[Column]) -> dict[str, list[Measurement]]:
    found = {c.title: [m for entry in c.entries if (m := entry.on(quantity, card))] for c in columns}
    return {title: measurements for title, measurements in found.items() if measurements}


def _of_versions(
    metric: Metric, measured: dict[str, list[Measurement]], base: str, level: float, weaker: list[str]
) -> dict[str, Cell]:
    (first,) = measured[base]
    cells = {}
    for title, (measurement,) in measured.items():
        if (value := metric.value(measurement)) is not None:
            try:
                said = None if title == base else judge(metric, first, measurement, level)
            except TrackingError as error:
                weaker.append(str(error))
                said = judge(metric, first, measurement, level, pairs=False)
            verdict = None if isinstance(said, Incomparable) else said
            cells[title] = Cell(value, metric.error(measurement), metric.interval(measurement), verdict)
    return cells


def _of_recipes(metric: Metric, measured: dict[str, list[Measurement]], base: str, level: float) -> dict[str, Cell]:
    numbers = {
        title: [value for m in found if (value := metric.value(m)) is not None] for title, found in measured.items()
    }
    cells = {}
    for title, values in numbers.items():
        if not values:
            continue
        mean, several = float(np.mean(values)), len(values) > 1
        error = float(np.std(values, ddof=1)) / sqrt(len(values)) if several else None
        verdict, difference = None, None
        if title != base and several and len(numbers[base]) > 1 and metric.judged:
            difference = welch(numbers[base], values)
        if difference is not None and difference.standard_error:  # seeds that all end alike say nothing of a spread
            verdict = verdict_of(difference, metric.good, max(abs(mean), abs(float(np.mean(numbers[base])))), level)
        around = interval(mean, error, len(values) - 1) if error else None
        cells[title] = Cell(mean, error, around, verdict, len(values))
    return cells


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:12]}.." if len(text) > 40 else text
