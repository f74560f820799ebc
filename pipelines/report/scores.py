"""Distances as they stand in metrics.json, for a person: a table, and rows for other tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

_VALUE = "{value:.3g} ({low:.3g} to {high:.3g})"
_ROWS = {
    "  infinitely many": "{infinity:.3g} ± {infinity_se:.2g}",
    "  KID": "{kid:.3g} ± {kid_se:.2g}",
    "  precision, recall": "{precision:.3f}, {recall:.3f}",
}
"""Label -> how the numbers are written."""


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
    return {
        metric: [_text(numbers, _VALUE, "{value:.3g}") for numbers in columns],
        **{label: [_text(numbers, form) for numbers in columns] for label, form in _ROWS.items()},
    }


def _text(numbers: Mapping[str, Any], *forms: str) -> str:
    """In the first form whose numbers are all there."""
    for form in forms:
        try:
            return form.format(**numbers)
        except KeyError:
            pass
    return ""
