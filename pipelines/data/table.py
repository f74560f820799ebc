"""images.parquet: one row per prepared image, in the order of the shards.

Columns: id (hash of the content), split, shard (number within the split), row (within the shard), label, and of the
original: name (below the source's root), width, height, mode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.data.collect import Record
from pipelines.data.manifest import TABLE
from pipelines.data.split import SplitName
from pipelines.errors import DataError


@dataclass(frozen=True)
class Rows:
    """What the other stages need of one split's rows."""

    ids: list[str]
    """One per image, in the order of the shards."""
    labels: NDArray[np.int64] | None
    """(n,), or None if there are no labels."""


def write_table(folder: Path, splits: Mapping[SplitName, Sequence[Record]], shard_size: int) -> None:
    """Write the table of `splits`, whose records are in the order of the shards."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [(split, position, record) for split, records in splits.items() for position, record in enumerate(records)]
    columns = {
        "id": pa.array([record.id for _, _, record in rows], pa.string()),
        "split": pa.array([split for split, _, _ in rows], pa.string()),
        "shard": pa.array([position // shard_size for _, position, _ in rows], pa.int32()),
        "row": pa.array([position % shard_size for _, position, _ in rows], pa.int32()),
        "label": pa.array([record.item.label for _, _, record in rows], pa.int64()),
        "name": pa.array([record.item.name for _, _, record in rows], pa.string()),
        "width": pa.array([record.width for _, _, record in rows], pa.int32()),
        "height": pa.array([record.height for _, _, record in rows], pa.int32()),
        "mode": pa.array([record.mode for _, _, record in rows], pa.string()),
    }
    pq.write_table(pa.table(columns), folder / TABLE)


def read_rows(folder: Path, split: SplitName) -> Rows:
    """Ids and labels of one split.

    Raises:
        DataError: the table is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / TABLE
    try:
        table = pq.read_table(path, columns=["id", "label"], filters=[("split", "=", split)])
    except FileNotFoundError:
        raise DataError(f"{path} is missing; run `dvc repro --force prepare`") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged ({error}); run `dvc repro --force prepare`") from None
    labels = table["label"]
    known = labels.null_count < len(labels)
    return Rows(table["id"].to_pylist(), labels.to_numpy().astype(np.int64) if known else None)
