"""`python -m pipelines.tracking.moved`: bring the embedded store up to date after the project's folder was moved.

MLflow writes the absolute place of artifacts into its database. This rewrites the old place to the new one, wherever it
stands at the beginning of a text, in one transaction.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from pipelines.errors import TrackingError
from pipelines.tracking.store import embedded_folder


def old_place(database: sqlite3.Connection) -> str | None:
    """The artifact folder that the database names, as a URI; None before the first experiment."""
    rows = database.execute("select artifact_location from experiments where artifact_location like '%/artifacts/%'")
    found = rows.fetchone()
    return None if found is None else str(found[0]).rsplit("/", 1)[0]


def move(path: Path, new: str) -> int:
    """Rewrite the places in the database at `path`; the number of rows that changed.

    Raises:
        TrackingError: there is no database.
    """
    if not path.exists():
        raise TrackingError(f"there is no embedded MLflow store at {path}")
    with closing(sqlite3.connect(path)) as database, database:
        old = old_place(database)
        if old is None or old == new:
            return 0
        tables = [row[0] for row in database.execute("select name from sqlite_master where type = 'table'")]
        return sum(_rewrite(database, table, old, new) for table in tables)


def _rewrite(database: sqlite3.Connection, table: str, old: str, new: str) -> int:
    changed = 0
    for _, column, kind, *_ in database.execute(f'pragma table_info("{table}")').fetchall():
        if "CHAR" in kind.upper() or "TEXT" in kind.upper():
            changed += database.execute(
                f'update "{table}" set "{column}" = ? || substr("{column}", ?) where "{column}" like ?',
                (new, len(old) + 1, f"{old}%"),
            ).rowcount
    return changed


def main() -> None:
    """Rewrite the embedded store of this project."""
    folder = embedded_folder()
    changed = move(folder / "mlflow.db", (folder / "artifacts").as_uri())
    print(f"{changed} places rewritten" if changed else "the embedded MLflow store names its right place already")


if __name__ == "__main__":
    from pipelines.stage import run

    run(main)
