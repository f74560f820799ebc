"""A comparison for the terminal, as Markdown, and as CSV for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.comparison.grids import Grid, GridCell, Tone
from pipelines.comparison.side_by_side import Block

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

_STYLES: dict[Tone, str] = {"": "", "good": "green", "bad": "red", "faint": "dim"}


def print_grids(made: Sequence[Grid], console: Console) -> None:
    """Print the tables, as wide as they need to be."""
    from rich.table import Table
    from rich.text import Text

    for grid in made:
        table = Table(title=grid.title, title_justify="left", title_style="bold", header_style="bold", box=None)
        table.add_column("", no_wrap=True)
        for head in grid.head:
            table.add_column(head, justify="right")
        for label, cells in grid.rows:
            lines = [Text("\n").join(Text(piece.text, _STYLES[piece.tone]) for piece in cell) for cell in cells]
            table.add_row(label, *lines)
        if grid.note:
            table.caption, table.caption_justify = grid.note, "left"
        console.print(table, soft_wrap=True)
        console.print()


def markdown(made: Sequence[Grid], notes: Sequence[str]) -> str:
    """The same for a pull request or a page."""
    parts = []
    for grid in made:
        lines = [f"**{_escaped(grid.title)}**", "", _row("", grid.head), _row("---", ["---:"] * len(grid.head))]
        lines += [_row(label.strip(), [_joined(cell) for cell in cells]) for label, cells in grid.rows]
        parts.append("\n".join([*lines, *(["", f"*{_escaped(grid.note)}*"] if grid.note else [])]))
    return "\n\n".join([*parts, *map(_escaped, filter(None, notes))]) + "\n"


def _row(label: str, cells: Sequence[str]) -> str:
    return f"| {' | '.join([label, *cells])} |"


def _joined(cell: GridCell) -> str:
    return "<br>".join(f"**{_escaped(p.text)}**" if p.tone in ("good", "bad") else _escaped(p.text) for p in cell)


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in "|*_`<>[]\\" else c for c in text)


def frame(found: Sequence[Block]) -> pd.DataFrame:
    """One row for each number: metric, column, value, its error, the card's digest, and the verdict with what it
    stands on. `base` is the column that it is judged against."""
    import pandas as pd

    from pipelines.runs.digest import digest

    rows = [
        {
            "metric": metric.name,
            "column": title,
            "value": cell.value,
            "standard_error": cell.error,
            "versions": cell.versions,
            "card": digest(block.card)[:16],
            "base": block.base,
            "verdict": str(cell.verdict.says) if cell.verdict else None,
            "probability_better": cell.verdict.probability if cell.verdict else None,
            "difference": cell.verdict.difference.value if cell.verdict else None,
            "difference_error": cell.verdict.difference.standard_error if cell.verdict else None,
            "pairs": cell.verdict.pairs if cell.verdict else None,
        }
        for block in found
        for metric, cells in block.rows
        for title, cell in cells.items()
    ]
    return pd.DataFrame(rows).astype({"versions": "int64", "pairs": "Int64"}) if rows else pd.DataFrame()
