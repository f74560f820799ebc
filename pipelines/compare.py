"""`python -m pipelines.compare [VERSIONS ..]`: registered versions side by side.

Numbers that were measured differently never stand in one table: versions are grouped by the cards of their numbers.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipelines.params import load_params
from pipelines.report.scores import distances, rows
from pipelines.settings import load_settings

if TYPE_CHECKING:
    from rich.table import Table

    from pipelines.tracking.registry import Version


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.compare", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("versions", nargs="*", metavar="VERSION", help="number or @alias; all of them if none is given")
    parser.add_argument("--name", help="registered model (default: register.name of params.yaml)")
    given = parser.parse_args()
    name = given.name or load_params().register_.name
    from pipelines.tracking.fetch import chosen, known_versions

    known = known_versions(load_settings(), name)
    wanted = [chosen(known, text, name) for text in given.versions] or known
    show(list({version.number: version for version in wanted}.values()), name)


def show(chosen: Sequence[Version], name: str) -> None:
    """Print one table per set of cards, and the parameters in which the versions differ."""
    from rich.console import Console

    console = Console()
    groups = by_card(chosen)
    for number, group in enumerate(groups):
        other = "" if number == 0 else f", measured with another {', '.join(_differs(groups[0], group))}"
        console.print(f"{name}{other}", style="bold")
        console.print(_table(group))
    if differing := differing_params(chosen):
        console.print("parameters that differ", style="bold")
        console.print(_params_table(chosen, differing))


def by_card(chosen: Sequence[Version]) -> list[list[Version]]:
    """Versions whose numbers were measured in the same way, together."""
    from pipelines.tracking.gate import differing_fields

    groups: list[list[Version]] = []
    for version in chosen:
        for group in groups:
            if not differing_fields(_cards(version), _cards(group[0])):
                group.append(version)
                break
        else:
            groups.append([version])
    return groups


def differing_params(chosen: Sequence[Version]) -> list[str]:
    """Names of the parameters that are not the same in all versions."""
    names = sorted({name for version in chosen for name in version.params})
    return [name for name in names if len({version.params.get(name) for version in chosen}) > 1]


def _differs(group: Sequence[Version], other: Sequence[Version]) -> list[str]:
    from pipelines.tracking.gate import differing_fields

    return differing_fields(_cards(group[0]), _cards(other[0]))


def _cards(version: Version) -> dict[str, Any]:
    """How each number was measured, by its name."""
    numbers = version.evaluation.items()
    return {name: number["card"] for name, number in numbers if isinstance(number, dict) and "card" in number}


def _table(group: Sequence[Version]) -> Table:
    from rich.table import Table

    table = Table(header_style="bold")
    table.add_column("")
    for version in group:
        table.add_column(" ".join([str(version.number), *version.aliases]), justify="right")
    for label, cell in _ROWS.items():
        table.add_row(label, *(cell(version) for version in group))
    for metric in sorted({name for version in group for name in distances(version.evaluation)}):
        found = [version.evaluation.get(metric, {}) for version in group]
        for label, texts in rows(metric, found).items():
            table.add_row(label, *texts)
        table.add_row("  of real images", *rows(metric, [distance.get("held_out", {}) for distance in found])[metric])
    return table


def _params_table(chosen: Sequence[Version], names: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(header_style="bold")
    table.add_column("")
    for version in chosen:
        table.add_column(str(version.number), justify="right")
    for name in names:
        table.add_row(name, *(version.params.get(name, "") for version in chosen))
    return table


def _term(name: str) -> Any:
    def cell(version: Version) -> str:
        bits = version.evaluation.get("bits_per_dim")
        return "" if bits is None else f"{bits[name]:.4f} ± {bits[f'{name}_se']:.4f}"

    return cell


_ROWS: dict[str, Any] = {
    "bits/dim": _term("total"),
    "  L_T": _term("L_T"),
    "  L_t summed": _term("L_t_sum"),
    "  L_0": _term("L_0"),
    "steps": lambda version: str(version.training.get("steps", "")),
    "parameters": lambda version: f"{version.training.get('parameters', 0):,}",
    "model": lambda version: version.model_digest[:12],
    "commit": lambda version: version.tags.get("git.commit", "")[:12],
    "registered": lambda version: f"{datetime.fromtimestamp(version.created_ms / 1000, UTC):%Y-%m-%d %H:%M}",
}


if __name__ == "__main__":
    from pipelines.stage import run

    run(main, arguments=True)
