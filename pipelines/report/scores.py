"""Distances as they stand in metrics.json, for a person: a table, and rows for other tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import floor, log10
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def distances(content: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of metrics.json that are distances, by name: `fid`, `fd_classifier` .."""
    return {name: number for name, number in content.items() if name.startswith(("fd_", "fid"))}


def scores_table(
    metric: str, columns: Mapping[str, Mapping[str, Any]], title: str, warnings: Sequence[str] = ()
) -> Table:
    """All measures of some sets of images.

    Args:
        columns: head -> numbers.
        warnings: to be printed below.
    """
    from rich.table import Table

    made = Table(title=title, header_style="bold", caption="\n".join(warnings) or None)
    for name in ("", *columns):
        made.add_column(name, justify="right" if name else "left")
    for label, texts in rows(metric, list(columns.values())).items():
        made.add_row(label, *texts)
    return made


def samples_table(metric: str, distance: Mapping[str, Any]) -> Table:
    """The samples, and beside them the held-out images, with their numbers."""
    columns = {f"{distance['images']:,} samples": distance}
    if floor := distance.get("held_out"):
        columns[f"{floor['images']:,} real images"] = floor
    card = distance["card"]
    title = f"distance to the training images, with intervals of {card['scoring']['level']:.0%}"
    return scores_table(metric, columns, title, card["warnings"])


def rows(metric: str, columns: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Label -> one text for each column, empty where it lacks the numbers."""
    texts: dict[str, Callable[[Mapping[str, Any]], str]] = {
        metric: _interval,
        "  infinitely many": partial(_with_error, "infinity"),
        "  KID": partial(_with_error, "kid"),
        "  precision, recall": lambda of: f"{of['precision']:.3f}, {of['recall']:.3f}" if "recall" in of else "",
    }
    return {label: [text(numbers) for numbers in columns] for label, text in texts.items()}


def _interval(numbers: Mapping[str, Any]) -> str:
    if "low" not in numbers:
        return f"{numbers['value']:.3g}" if "value" in numbers else ""
    value, low, high = (_rounded(numbers[name], numbers["value_se"]) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _with_error(name: str, numbers: Mapping[str, Any]) -> str:
    if name not in numbers:
        return ""
    error = numbers[f"{name}_se"]
    return f"{_rounded(numbers[name], error)} ± {_rounded(error, error)}"


def _rounded(value: float, error: float) -> str:
    """To two digits of the error."""
    return f"{value:.{max(0, 1 - floor(log10(error)))}f}" if error else f"{value:.3g}"
