"""Versions that were made by one recipe: their parameters differ in nothing but the seed."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.comparison.side_by_side import Column, Entry
from pipelines.tracking.registry import Version

SEED = "seed"
_NOT_OF_A_RECIPE = ("register.",)
"""Beginnings of the names of parameters that change no model and no measurement."""


def recipe(version: Version) -> tuple[tuple[str, str], ...]:
    """What two versions must have in common: their parameters; of models that were trained elsewhere, by parameters
    that nobody knows, the weights."""
    params = version.params
    known = {k: v for k, v in params.items() if k != SEED and not k.startswith(_NOT_OF_A_RECIPE)}
    if not any(name.startswith("train.") for name in params):
        known["model.digest"] = version.model_digest
    return tuple(sorted(known.items()))


def by_recipe(entries: Sequence[Entry]) -> list[Column]:
    """One column for each recipe, in the order of their first versions: `A` (1, 3, 4), `B` (2) ..

    Of versions with the same seed the last one counts: they are no two draws.
    """
    found: dict[tuple[tuple[str, str], ...], list[Entry]] = {}
    for entry in entries:
        found.setdefault(recipe(entry.version), []).append(entry)
    columns = []
    for k, group in enumerate(found.values()):
        counting = tuple({entry.version.params.get(SEED, ""): entry for entry in group}.values())
        others = tuple(entry for entry in group if entry not in counting)
        columns.append(Column(_name(k, counting), counting, others))
    return columns


def replaced(columns: Sequence[Column]) -> list[str]:
    """A line for each column that leaves versions out."""
    return [
        f"{column.title} leaves out {' and '.join(str(entry.version.number) for entry in column.replaced)}: a later "
        "version has the same recipe and seed."
        for column in columns
        if column.replaced
    ]


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
