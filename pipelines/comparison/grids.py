"""What stands in the tables of a comparison, cell by cell, whatever they are printed on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import floor, log10
from typing import Literal

from pipelines.comparison.cards import decisive
from pipelines.comparison.metrics import LEVEL
from pipelines.comparison.recipes import differing_params
from pipelines.comparison.side_by_side import Block, Cell, Column, Entry
from pipelines.comparison.verdict import NEGLIGIBLE, Says, likely

Tone = Literal["", "good", "bad", "faint"]
_TONES: dict[Says, Tone] = {Says.BETTER: "good", Says.WORSE: "bad", Says.SAME: "faint"}


@dataclass(frozen=True)
class Piece:
    """A line of a cell."""

    text: str
    tone: Tone = ""


GridCell = tuple[Piece, ...]


@dataclass(frozen=True)
class Grid:
    """A table: a label and one cell for each column in every row."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, tuple[GridCell, ...]], ...]
    note: str = ""
    base: str = ""
    """Head of the column that the others are judged against."""


def grids(columns: Sequence[Column], found: Sequence[Block]) -> list[Grid]:
    """All tables of a comparison: one for each card, what the versions are, and the parameters that differ."""
    made = [_of_block(block, columns) for block in found]
    base = found[0].base if found else ""
    made.append(replace(_of_facts(columns), base=base))
    if differing := differing_params(columns):
        rows = tuple((name, tuple(_plain(value) for value in values)) for name, values in differing.items())
        made.append(Grid("parameters that differ", _head(columns), rows, base=base))
    return made


def title_of(entry: Entry) -> str:
    """Number and aliases of a version."""
    return " ".join([str(entry.version.number), *entry.version.aliases])


def _head(columns: Sequence[Column]) -> tuple[str, ...]:
    return tuple(column.title for column in columns)


def _of_block(block: Block, columns: Sequence[Column]) -> Grid:
    titles = [column.title for column in columns if column.title in block.titles]
    rows = tuple((metric.label, tuple(_cell(cells.get(title)) for title in titles)) for metric, cells in block.rows)
    other = f", measured with another {block.differs()}" if block.other else ""
    against = f"against {block.base}" if len(block.titles) > 1 else ""
    pairs = {c.verdict.pairs for _, cells in block.rows for c in cells.values() if c.verdict and c.verdict.pairs}
    note = f"compared image by image on {max(pairs):,} images" if pairs else ""
    weaker = f"by the standard errors alone, which sees less: {'; '.join(block.weaker)}" if block.weaker else ""
    title = f"{_WHAT.get(block.quantity, block.quantity)}, with intervals of {LEVEL:.0%}{other}"
    lines = [
        _joined(against, note, weaker),
        _unjudged(block),
        f"measured on {decisive([card for found in block.cards.values() for card in found])}",
    ]
    return Grid(title, tuple(titles), rows, "\n".join(filter(None, lines)), block.base)


def _unjudged(block: Block) -> str:
    """Which numbers get no verdict because nobody knows their errors."""
    judged = [(metric.label.strip(), cells.values()) for metric, cells in block.rows if metric.judged]
    names = [label for label, cells in judged if len(cells) > 1 and all(cell.error is None for cell in cells)]
    return f"no verdict on {', '.join(names)}: the standard error is not known" if names else ""


_WHAT = {"bits_per_dim": "bound on the test images, bits per dimension"}


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _cell(cell: Cell | None) -> GridCell:
    if cell is None:
        return ()
    first = Piece(_with_interval(cell))
    if cell.verdict is None:
        return (first,)
    said = f"{cell.verdict.says}, {likely(cell.verdict.probability)}"
    return (first, Piece(said, _TONES[cell.verdict.says]))


def _with_interval(cell: Cell) -> str:
    """`2.01 (0.15 to 3.88)`, to two digits of the standard error."""
    if not cell.error or cell.interval is None:
        return f"{cell.value:.4g}"
    if cell.error <= NEGLIGIBLE * abs(cell.value):  # seeds that differ by rounding, as those of L_T do
        return f"{cell.value:.6g}"
    value, low, high = (f"{x:.{_digits(cell.error)}f}" for x in (cell.value, *cell.interval))
    return f"{value} ({low} to {high})"


def number(value: float, error: float | None) -> str:
    """A number with its error, to two digits of that."""
    if not error:
        return f"{value:.4g}"
    return f"{value:.{_digits(error)}f} ± {error:.{_digits(error)}f}"


def _digits(error: float) -> int:
    return max(0, 1 - floor(log10(error)))


def _of_facts(columns: Sequence[Column]) -> Grid:
    rows = [(label, tuple(_plain(_all(column, fact)) for column in columns)) for label, fact in FACTS.items()]
    return Grid("versions", _head(columns), tuple(row for row in rows if any(cell[0].text for cell in row[1])))


def _all(column: Column, fact: Callable[[Entry], str]) -> str:
    return ", ".join(dict.fromkeys(text for entry in column.entries if (text := fact(entry))))


def _plain(text: str) -> GridCell:
    return (Piece(text),)


def _speed(entry: Entry) -> str:
    cost = entry.measurements[0].sampling if entry.measurements else {}
    return f"{cost['per_second']:.3g} on {cost['workers']} workers" if cost.get("per_second") else ""


def _cost(entry: Entry) -> str:
    seconds = entry.version.took.get("train", {}).get("worker_seconds")
    if not seconds:
        return ""
    return f"{seconds / 3600:.2f} worker hours" if seconds > 3600 else f"{seconds / 60:.1f} worker minutes"


def _commit(entry: Entry) -> str:
    tags = entry.version.tags
    changed = " with changes" if tags.get("git.dirty") == "true" else ""
    return tags.get("git.commit", "")[:12] + changed


FACTS: dict[str, Callable[[Entry], str]] = {
    "steps": lambda entry: f"{entry.version.training['steps']:,}" if "steps" in entry.version.training else "",
    "network": lambda e: f"{e.version.training['parameters']:,}" if "parameters" in e.version.training else "",
    "training cost": _cost,
    "samples per second": _speed,
    "hardware": lambda entry: entry.version.took.get("train", {}).get("hardware", ""),
    "model": lambda entry: entry.version.model_digest[:12],
    "data": lambda entry: entry.version.tags.get("data.digest", "")[:12],
    "commit": _commit,
    "registered": lambda entry: f"{datetime.fromtimestamp(entry.version.created_ms / 1000, UTC):%Y-%m-%d %H:%M}",
}
"""Label -> what a version says of itself."""


def explanation(columns: Sequence[Column], *, by_recipe: bool) -> str:
    """What the verdicts mean, for the foot of the tables; nothing where there are none."""
    if len(columns) == 1:
        return ""
    test = f"P: how likely it is truly better; better and worse are two-sided tests at {LEVEL:.0%}."
    if by_recipe:
        return (
            f"{test} Each column is a recipe with the mean over its versions; the noise is the spread between them, so "
            "a recipe needs two seeds or more (dvc exp run --temp -S seed=1) for a verdict."
        )
    return (
        f"{test} They speak of these weights, not of the recipes: the same recipe with another seed gives other "
        "weights. For recipes train two seeds or more of each and add --by recipe."
    )
