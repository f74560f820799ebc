"""`python -m pipelines.compare [VERSION ..]`: registered versions side by side, with a verdict on each number.

A VERSION is a number, an @alias, or models:/NAME/VERSION for one of another name; all versions if none is given.
Numbers that were measured differently never stand in one row; the command that brings them together is printed.

    python -m pipelines.compare @champion 7 --out comparison.html
    python -m pipelines.compare --last 5 --format markdown
    python -m pipelines.compare --where 'train.steps>=4000' --where 'bits_per_dim<1.8'
    python -m pipelines.compare --by recipe

Exit status: 0 none is worse than the base; 3 one is, in bits per dimension or distance; 4 some were measured
differently and cannot be compared; 1 an error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import ParamsError
from pipelines.params import load_params
from pipelines.settings import Settings, load_settings

if TYPE_CHECKING:
    from pipelines.comparison.side_by_side import Block, Column, Entry

WORSE, INCOMPARABLE = 3, 4
"""Exit statuses."""
FORMATS = {".md": "markdown", ".csv": "csv", ".html": "html", ".txt": "table"}


def main() -> None:
    """Print or write the comparison."""
    asked = _arguments()
    form = asked.format or (FORMATS[asked.out.suffix.lower()] if asked.out else "table")
    from pipelines.comparison.side_by_side import blocks

    entries = chosen_entries(asked, load_settings())
    columns = columns_of(entries, by_recipe=asked.by == "recipe")
    found = blocks(columns, base_of(columns, asked.against), by_recipe=asked.by == "recipe")
    write(columns, found, form, asked)
    raise SystemExit(status_of(columns, found))


def chosen_entries(asked: argparse.Namespace, settings: Settings) -> list[Entry]:
    """The versions that are meant, each once, in the order given.

    Raises:
        TrackingError: one does not exist, or the registry does not answer.
        ParamsError: none is left.
    """
    from pipelines.comparison.choice import meeting
    from pipelines.comparison.side_by_side import Entry
    from pipelines.tracking.fetch import find_versions, known_versions
    from pipelines.tracking.measurements import measurements

    name = asked.name or load_params().register_.name
    found = find_versions(asked.versions, name, settings) if asked.versions else known_versions(settings, name)
    entries = [Entry(version, measurements(version, settings)) for version in found]
    entries = meeting(entries, asked.where)[-asked.last if asked.last else 0 :]
    if not entries:
        raise ParamsError(f"no version of {name} meets {' and '.join(asked.where)}")
    return entries


def columns_of(entries: Sequence[Entry], *, by_recipe: bool = False) -> list[Column]:
    """One column for each version, or for each recipe."""
    from pipelines.comparison import recipes
    from pipelines.comparison.grids import title_of
    from pipelines.comparison.side_by_side import Column

    if by_recipe:
        return recipes.by_recipe(entries)
    several = len({entry.version.name for entry in entries}) > 1
    return [Column(f"{entry.version.name}/" * several + title_of(entry), (entry,)) for entry in entries]


def base_of(columns: Sequence[Column], against: str | None) -> str:
    """Title of the column that the others are judged against: the one asked for, the champion's, or the first.

    Raises:
        ParamsError: the one asked for is not among them.
    """
    from pipelines.tracking.registry import CHAMPION

    wanted = against or f"@{CHAMPION}"
    for column in columns:
        for version in (entry.version for entry in column.entries):
            if wanted in (
                str(version.number),
                version.uri,
                *(f"@{alias}" for alias in version.aliases),
                column.title.split()[0],
            ):
                return column.title
    if against:
        raise ParamsError(f"--against {against} is not compared here; there are {', '.join(c.title for c in columns)}")
    return columns[0].title


def missing(columns: Sequence[Column], found: Sequence[Block]) -> dict[str, list[str]]:
    """Quantity -> the columns in which it was never measured; empty if all were measured in all."""
    if not found:
        return {"anything": [column.title for column in columns]}
    lacking = {}
    for quantity in dict.fromkeys(block.quantity for block in found):
        there = {title for block in found if block.quantity == quantity for title in block.titles}
        if lost := [column.title for column in columns if column.title not in there]:
            lacking[quantity] = lost
    return lacking


def status_of(columns: Sequence[Column], found: Sequence[Block]) -> int:
    """The exit status."""
    from pipelines.comparison.verdict import Says

    if any(block.other for block in found) or missing(columns, found):
        return INCOMPARABLE
    headline = [cell for b in found for m, cells in b.rows if m.key in ("total", "value") for cell in cells.values()]
    return WORSE if any(cell.verdict and cell.verdict.says is Says.WORSE for cell in headline) else 0


def remedies(columns: Sequence[Column], found: Sequence[Block]) -> list[str]:
    """What cannot be compared and why, and the command that helps."""
    from pipelines.comparison import recipes
    from pipelines.comparison.cards import STAYS, not_measurable

    lines: list[str] = []
    helped: set[str] = set()
    for block in (block for block in found if block.other):
        first = next(b for b in found if b.quantity == block.quantity)
        here = " and ".join(title for title in block.titles if title not in first.titles)
        there = " and ".join(title for title in first.titles if title not in block.titles)
        of_model = not_measurable(block.other)
        stays = f"; {STAYS.format(', '.join(of_model))}" if of_model else ""
        lines.append(f"{here} cannot be compared with {there} by {block.quantity}: another {block.differs()}{stays}.")
        if not of_model:
            helped |= {*block.titles, *first.titles}
    for quantity, titles in missing(columns, found).items():
        lines.append(f"{' and '.join(titles)} cannot be compared by {quantity}: not measured.")
        helped |= {column.title for column in columns}
    if helped:
        named = " ".join(entry.version.uri for c in columns if c.title in helped for entry in c.entries)
        lines.append(f"To measure all in one way, that of params.yaml: python -m pipelines.remeasure {named}")
    lines += [f"{title} holds versions that were registered with different code." for title in recipes.mixed(columns)]
    return lines + recipes.replaced(columns)


def write(columns: Sequence[Column], found: Sequence[Block], form: str, asked: argparse.Namespace) -> None:
    """Print the comparison, or write it to the file asked for."""
    from pipelines.comparison.grids import explanation, grids

    notes = [explanation(columns, by_recipe=asked.by == "recipe"), *remedies(columns, found)]
    if form == "table":
        from rich.console import Console

        from pipelines.comparison.text import print_grids

        with asked.out.open("w", encoding="utf-8") if asked.out else nullcontext(sys.stdout) as file:
            console = Console(file=file, highlight=False, width=None if asked.out is None else 200)
            print_grids(grids(columns, found), console)
            for note in filter(None, notes):
                console.print(note, markup=False, soft_wrap=True)
    else:
        _deliver(_text(form, columns, found, notes), asked.out)
    if asked.out:
        print(f"written to {asked.out}", file=sys.stderr)
    if asked.out or form == "csv":  # which has no place for them
        for note in notes[1:]:
            print(note, file=sys.stderr)


def _text(form: str, columns: Sequence[Column], found: Sequence[Block], notes: list[str]) -> str:
    from pipelines.comparison.grids import grids
    from pipelines.comparison.text import frame, markdown

    if form == "csv":
        return str(frame(found).to_csv(index=False))
    if form == "markdown":
        return markdown(grids(columns, found), notes)
    from pipelines.comparison.page import comparison_page

    return comparison_page(columns, found, notes)


def _deliver(text: str, out: Path | None) -> None:
    if out is None:
        print(text, end="")
    else:
        out.write_text(text, encoding="utf-8")


def _arguments() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m pipelines.compare", description=__doc__, formatter_class=form)
    parser.add_argument("versions", nargs="*", metavar="VERSION", help="number, @alias or models:/NAME/VERSION")
    parser.add_argument("--last", type=int, metavar="N", help="the last N of these")
    parser.add_argument(
        "--where", action="append", default=[], metavar="CONDITION", help="'NAME<VALUE', quoted; may be repeated"
    )
    parser.add_argument("--against", metavar="VERSION", help="what the others are judged against (default: @champion)")
    parser.add_argument("--by", choices=("version", "recipe"), default="version", help="recipe: seeds together")
    parser.add_argument("--name", help="registered model (default: register.name of params.yaml)")
    parser.add_argument(
        "--format", choices=sorted(set(FORMATS.values())), help="default: by --out's ending, else table"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"write here: {', '.join(FORMATS)}")
    asked = parser.parse_args()
    if asked.last is not None and asked.last < 1:
        parser.error("--last must be 1 or more")
    if asked.out and (asked.out.suffix.lower() not in FORMATS or not asked.out.parent.is_dir()):
        parser.error(f"--out must end in {', '.join(FORMATS)}, in a folder that exists; got {asked.out}")
    return asked


if __name__ == "__main__":
    from pipelines.stage import run

    run(main, arguments=True)
