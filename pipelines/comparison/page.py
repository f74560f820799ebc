"""A comparison, or the card of one model, as one file of HTML that asks for no other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipelines.comparison.cards import own, shared
from pipelines.comparison.figures import Figure, samples_of, scatters, terms_overlaid
from pipelines.comparison.grids import Grid, Piece, grids
from pipelines.comparison.measurement import BOUND
from pipelines.comparison.side_by_side import Block, Column
from pipelines.tracking.registry import Version


@dataclass(frozen=True)
class Section:
    """A heading with tables, pictures, or text."""

    title: str
    grids: Sequence[Grid] = ()
    figures: Sequence[Figure] = ()
    wide: bool = True
    """Whether each picture takes the page's width; else they stand side by side."""
    text: str = ""
    folded: Sequence[tuple[str, str]] = ()
    """Summary and text of what opens at a click."""


def comparison_page(columns: Sequence[Column], found: Sequence[Block], notes: Sequence[str]) -> str:
    """Several versions or recipes."""
    names = sorted({entry.version.name for column in columns for entry in column.entries})
    made = grids(columns, found)
    numbers, facts = made[: len(found)], made[len(found) :]
    samples, bounds = samples_of(columns), [block for block in found if block.quantity == BOUND]
    sections = [
        Section("Verdicts", text="\n".join(verdict_lines(columns, found))),
        Section("Numbers", grids=numbers, text=notes[0]),
        Section("Samples", figures=samples, wide=False, text=_SAMPLES if samples else ""),
        Section("Terms of the bound", figures=_terms(columns, bounds)),
        Section("Image by image", figures=[each for block in bounds for each in scatters(columns, block)]),
        Section("Versions", grids=facts),
        Section("Where they come from", folded=[lineage(e.version) for c in columns for e in c.entries]),
        Section("How it was measured", folded=cards(found)),
    ]
    return _render(f"{', '.join(names)}: {len(columns)} side by side", sections, warnings=notes[1:])


def model_card(column: Column, found: Sequence[Block], how_to_load: str) -> str:
    """One version, with all that is known of it."""
    (entry,) = column.entries
    version = entry.version
    numbers, facts = grids([column], found)[: len(found)], grids([column], [])
    params = tuple((name, ((Piece(value),),)) for name, value in sorted(version.params.items()))
    sections = [
        Section("Numbers", grids=numbers),
        Section("Samples", figures=samples_of([column]), wide=False),
        Section("Terms of the bound", figures=_terms([column], found)),
        Section("Facts", grids=facts),
        Section("Use it", folded=[("load it and draw", how_to_load)]),
        Section("Where it comes from", folded=[lineage(version)]),
        Section("How it was measured", folded=cards(found)),
        Section("Parameters", grids=[Grid("", ("value",), params)] if params else ()),
    ]
    return _render(f"{version.name} version {version.number}", sections, subtitle=", ".join(version.aliases))


def verdict_lines(columns: Sequence[Column], found: Sequence[Block]) -> list[str]:
    """A sentence for each column and number that heads a block."""
    lines = []
    for block in found:
        for metric, cells in block.rows[:1]:
            for column in columns:
                cell = cells.get(column.title)
                if cell and cell.verdict:
                    lines.append(f"{column.title} against {block.base}, {metric.label}: {cell.verdict}")
    return lines


def lineage(version: Version) -> tuple[str, str]:
    """Where a version comes from."""
    tags = version.tags
    lines = [f"{name}  {tags[name]}" for name in sorted(tags) if name in _LINEAGE or name.startswith("lineage.")]
    lines.append(f"gate  {tags.get('gate.reason', 'was not asked')}")
    lines.append(f"again  python -m pipelines.reproduce {version.uri}")
    return f"version {version.number}", "\n".join(lines)


_LINEAGE = (
    *("git.commit", "git.dirty", "dvc.lock.sha256", "data.digest", "model.digest", "run.key", "weights"),
    *("python", "torch", "hardware", "took"),
)
_SAMPLES = "The first samples of each, by number: where seed and sampler agree, those in the same place began alike."


def cards(found: Sequence[Block]) -> list[tuple[str, str]]:
    """The card of each block, as JSON."""
    return [(f"{block.quantity}: {', '.join(block.titles)}", _card(block)) for block in found]


def _card(block: Block) -> str:
    """What is the same in all columns, and of each what it has by itself."""
    each = {title: [own(card) for card in found] for title, found in block.cards.items()}
    return json.dumps({"all": shared(block.card), **each}, indent=2)


def _terms(columns: Sequence[Column], found: Sequence[Block]) -> list[Figure]:
    drawn = (terms_overlaid(columns, block) for block in found if block.quantity == BOUND)
    return [figure for figure in drawn if figure is not None]


def _render(title: str, sections: Sequence[Section], subtitle: str = "", warnings: Sequence[str] = ()) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    full = [s for s in sections if s.grids or s.figures or s.folded or s.text]
    made = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    text: str = environment.get_template("page.html.j2").render(
        title=title, subtitle=subtitle, warnings=warnings, sections=full, made=made
    )
    return text
