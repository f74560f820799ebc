"""The pictures of a page, each as text that an <img> holds: the page then needs no other file."""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.comparison.measurement import BOUND, Measurement, together
from pipelines.comparison.side_by_side import Column
from pipelines.errors import TrackingError
from pipelines.report.scores import distances

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = 6
_SIDE = 336
"""Page pixels of a grid of samples, about."""
_SCATTERS = 4


@dataclass(frozen=True)
class Figure:
    """A picture with its words."""

    source: str
    """`data:image/png;base64,..`."""
    alt: str
    caption: str = ""


def newest(column: Column) -> Measurement | None:
    """The newest measurement of a column that is one version."""
    return next((m for entry in column.entries for m in entry.measurements), None)


def samples_of(columns: Sequence[Column]) -> list[Figure]:
    """A grid of the first samples of each column: those of the same numbers, so of the same noise where seeds agree."""
    made = []
    for column in columns:
        measurement = newest(column)
        if measurement is not None and (picture := _samples(measurement)) is not None:
            card = _samples_card(measurement)
            how = f"{card.get('sampler')}, {card.get('steps')} steps, seed {card.get('seed')}"
            made.append(Figure(picture, f"samples of {column.title}", f"{column.title}: {how}"))
    return made


def terms_overlaid(columns: Sequence[Column]) -> Figure | None:
    """L_t against t of all columns."""
    from pipelines.report.pictures.versions import COLOURS, terms_of_versions

    curves: dict[str, pd.DataFrame] = {}
    for column in columns[: len(COLOURS)]:
        if (
            (m := newest(column)) is not None
            and (frame := _table(m, "per_timestep.parquet")) is not None
            and len(frame)
        ):
            curves[column.title] = frame
    if not curves:
        return None
    return Figure(_png(partial(terms_of_versions, curves)), "terms of the bound against t")


def scatters(columns: Sequence[Column], base: str) -> list[Figure]:
    """What each image costs the base and another column, for the first few."""
    from pipelines.report.pictures.versions import image_by_image

    first = next((newest(column) for column in columns if column.title == base), None)
    made = []
    for column in [column for column in columns if column.title != base][:_SCATTERS]:
        second = newest(column)
        if first is not None and second is not None and (both := together(first, second, "total")) is not None:
            picture = _png(partial(image_by_image, base, column.title, both))
            made.append(Figure(picture, f"bits per image of {column.title} against {base}"))
    return made


def _samples_card(measurement: Measurement) -> Mapping[str, object]:
    found = (measurement.card(name).get("samples", {}) for name in distances(measurement.content))
    return next(found, {})


def _samples(measurement: Measurement) -> str | None:
    """The grid as PNG: whole pixels, each enlarged alike."""
    from PIL import Image

    from pipelines.report.pictures.tiles import from_levels

    try:
        images = np.load(measurement.folder / "samples.npy", allow_pickle=False)
    except (TrackingError, OSError):
        return None
    levels = int(measurement.content[BOUND]["card"].get("levels", 256))
    rows = len(images) // _COLUMNS
    if not rows:
        return None
    shown = from_levels(images[: min(rows, _COLUMNS) * _COLUMNS], levels)
    n, h, w, _ = shown.shape
    k = max(1, _SIDE // (_COLUMNS * w))
    padded = np.pad(shown.repeat(k, 1).repeat(k, 2), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
    grid = padded.reshape(n // _COLUMNS, _COLUMNS, k * h + 2, k * w + 2, 3).swapaxes(1, 2)
    image = Image.fromarray(grid.reshape((k * h + 2) * (n // _COLUMNS), (k * w + 2) * _COLUMNS, 3))
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return _embedded(file.getvalue())


def _table(measurement: Measurement, name: str) -> pd.DataFrame | None:
    import pandas as pd

    try:
        return pd.read_parquet(measurement.folder / name)
    except (TrackingError, OSError):
        return None


def _png(draw: Callable[[Path], None]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        draw(path)
        return _embedded(path.read_bytes())


def _embedded(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
