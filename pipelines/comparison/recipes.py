"""Versions that were made by one recipe: their parameters differ in nothing but the seed."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.comparison.side_by_side import Column, Entry

SEED = "seed"
_NOT_OF_A_RECIPE = ("register.",)
"""Beginnings of the names of parameters that change no model and no measurement."""


def recipe(params: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """What two versions must have in common."""
    return tuple(sorted((k, v) for k, v in params.items() if k != SEED and not k.startswith(_NOT_OF_A_RECIPE)))


def by_recipe(entries: Sequence[Entry]) -> list[Column]:
    """One column for each recipe, in the order of their first versions: `A` (1, 3, 4), `B` (2) ..

    Of versions with the same seed the last one counts: they are no two draws.
    """
    found: dict[tuple[tuple[str, str], ...], dict[str, Entry]] = {}
    for entry in entries:
        found.setdefault(recipe(entry.version.params), {})[entry.version.params.get(SEED, "")] = entry
    return [Column(_name(k, list(group.values())), tuple(group.values())) for k, group in enumerate(found.values())]


def mixed(columns: Sequence[Column]) -> list[str]:
    """Titles of the columns whose versions were registered with different code."""
    return [c.title for c in columns if len({entry.version.tags.get("source.digest") for entry in c.entries}) > 1]


def _name(k: int, group: Sequence[Entry]) -> str:
    letters = chr(ord("A") + k % 26) + (str(k // 26) if k >= 26 else "")
    return f"{letters} ({', '.join(str(entry.version.number) for entry in group)})"


def differing_params(columns: Sequence[Column]) -> dict[str, list[str]]:
    """Name -> the value in each column, of the parameters that are not the same in all. Where a column's versions
    differ among themselves, all their values."""
    names = sorted({name for column in columns for entry in column.entries for name in entry.version.params})
    table = {name: [_values(column, name) for column in columns] for name in names}
    return {name: values for name, values in table.items() if len(set(values)) > 1}


def _values(column: Column, name: str) -> str:
    return ", ".join(dict.fromkeys(entry.version.params.get(name, "-") for entry in column.entries))
