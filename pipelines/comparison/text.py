"""A comparison for the terminal, as Markdown, and as CSV for programs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.comparison.cards import shared
from pipelines.comparison.grids import Grid, GridCell, Tone
from pipelines.comparison.side_by_side import Block

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

_STYLES: dict[Tone, str] = {"": "", "good": "green", "bad": "red", "faint": "dim"}
_GAP = 2
"""Blanks between columns."""
_LINE = 20
"""Longer lines of a cell are broken where there is no room for all columns .."""
_BREAKS = re.compile(r",? (?=\(|P [=<>])|(?<=,) ")
""".. before the interval and the probability, and in lists."""


def print_grids(made: Sequence[Grid], console: Console) -> None:
    """Print the tables. One that is wider than the console is printed in parts, each with the labels and the base."""
    for grid in made:
        console.print(grid.title, style="bold", markup=False)
        for table in _tables(grid, console.width):
            console.print(table)
            console.print()
        if grid.note:
            console.print(f"{grid.note}\n", style="dim", markup=False)


def _tables(grid: Grid, room: int) -> list[Table]:
    """One table, with as many lines in a cell as need be; or several, the base in each where there is room for it."""
    for line in (room, _LINE):
        label = max((len(label) for label, _ in grid.rows), default=0)
        widths = [_GAP + _width(grid, k, line) for k in range(len(grid.head))]
        if label + sum(widths) <= room:
            return [_table(grid, range(len(grid.head)), line)]
    base = [grid.head.index(grid.base)] if grid.base in grid.head else []
    parts = [base.copy()]
    for k in range(len(grid.head)):
        if k not in base:
            tried = [[*parts[-1], k], [*base, k]]
            fitting = [part for part in tried if label + sum(widths[j] for j in part) <= room]
            if fitting[:1] == tried[:1]:
                parts.pop()
            parts.append(next(iter(fitting), [k]))
    return [_table(grid, part, _LINE) for part in parts if part]


def _width(grid: Grid, k: int, line: int) -> int:
    return max(len(text) for text in [grid.head[k], *(t for _, cells in grid.rows for t, _ in _lines(cells[k], line))])


def _lines(cell: GridCell, line: int) -> list[tuple[str, str]]:
    """The lines of a cell with their styles, those longer than `line` broken where that reads well."""
    broken = [(p, _BREAKS.sub("\n", p.text) if len(p.text) > line else p.text) for p in cell]
    return [(text, _STYLES[piece.tone]) for piece, lines in broken for text in lines.split("\n")]


def _table(grid: Grid, part: Sequence[int], line: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold", box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    table.add_column("", no_wrap=True)
    for k in part:
        table.add_column(Text(grid.head[k]), justify="right", overflow="fold")
    for label, cells in grid.rows:
        lines = [[Text(*each) for each in _lines(cells[k], line)] for k in part]
        table.add_row(Text(label), *(Text("\n").join(each) for each in lines))
    return table


def markdown(made: Sequence[Grid], notes: Sequence[str]) -> str:
    """The same for a pull request or a page."""
    parts = []
    for grid in made:
        lines = [
            f"**{_escaped(grid.title)}**",
            "",
            _row("", list(map(_escaped, grid.head))),
            _row("---", ["---:"] * len(grid.head)),
        ]
        lines += [_row(_escaped(label.strip()), [_joined(cell) for cell in cells]) for label, cells in grid.rows]
        parts.append("\n".join([*lines, *(_noted(grid.note))]))
    return "\n\n".join([*parts, *map(_escaped, filter(None, notes))]) + "\n"


def _noted(note: str) -> list[str]:
    return ["", "<br>\n".join(f"*{_escaped(line)}*" for line in note.splitlines())] if note else []


def _row(label: str, cells: Sequence[str]) -> str:
    return f"| {' | '.join([label, *cells])} |"


def _joined(cell: GridCell) -> str:
    return "<br>".join(f"**{_escaped(p.text)}**" if p.tone in ("good", "bad") else _escaped(p.text) for p in cell)


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in "|*_`<>[]\\" else c for c in text)


def frame(found: Sequence[Block]) -> pd.DataFrame:
    """One row for each number: metric, column, value, its error and interval, the card's digest, and the verdict with
    what it stands on. `base` is the column that it is judged against."""
    import pandas as pd

    from pipelines.runs.digest import digest

    rows = [
        {
            "metric": metric.name,
            "column": title,
            "value": cell.value,
            "standard_error": cell.error,
            "low": cell.interval and cell.interval[0],
            "high": cell.interval and cell.interval[1],
            "versions": cell.versions,
            "card": digest(shared(block.card))[:16],
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
