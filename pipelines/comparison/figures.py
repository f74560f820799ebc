"""The pictures of a page, each as text that an <img> holds: the page then needs no other file."""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.comparison.measurement import BOUND, Measurement, together
from pipelines.comparison.side_by_side import Block, Column
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


def samples_of(columns: Sequence[Column]) -> list[Figure]:
    """A grid of the first samples of each column: those of the same numbers, so of the same noise where seeds agree."""
    made = []
    for column in (column for column in columns if len(column.entries) == 1):
        measurement = next(iter(column.entries[0].measurements), None)
        if measurement is not None and (picture := _samples(measurement)) is not None:
            card = _samples_card(measurement)
            how = f"{card.get('sampler')}, {card.get('steps')} steps, seed {card.get('seed')}"
            made.append(Figure(picture, f"samples of {column.title}", f"{column.title}: {how}"))
    return made


def terms_overlaid(columns: Sequence[Column], block: Block) -> Figure | None:
    """L_t against t of the columns whose bound was measured in this way, the base first."""
    from pipelines.report.pictures.versions import COLOURS, terms_of_versions

    curves: dict[str, pd.DataFrame] = {}
    measured = _measured(columns, block)
    for title, measurement in measured.items():
        frame = None if len(curves) == len(COLOURS) else _table(measurement, "per_timestep.parquet")
        if frame is not None and len(frame):
            curves[title] = frame
    if not curves:
        return None
    left_out = [title for title in measured if title not in curves]
    why = f"of {len(COLOURS)} curves at most" if len(curves) == len(COLOURS) else "their tables cannot be had"
    return Figure(_png(partial(terms_of_versions, curves)), "terms of the bound against t", _left_out(left_out, why))


def scatters(columns: Sequence[Column], block: Block) -> list[Figure]:
    """What each image costs the block's base and another of its columns, for the first few."""
    from pipelines.report.pictures.versions import image_by_image

    measured = _measured(columns, block)
    first = measured.pop(block.base, None)
    made = []
    shown, rest = list(measured.items())[:_SCATTERS], list(measured)[_SCATTERS:]
    for title, second in shown:
        with suppress(TrackingError):  # the note of the numbers says so
            if first is not None and (both := together(first, second, "total")) is not None:
                picture = _png(partial(image_by_image, block.base, title, both))
                made.append(Figure(picture, f"bits per image of {title} against {block.base}"))
    if made and rest:
        made[-1] = replace(made[-1], caption=_left_out(rest, f"of {_SCATTERS} pictures at most"))
    return made


def _left_out(titles: Sequence[str], why: str) -> str:
    return f"not shown, {why}: {', '.join(titles)}" if titles else ""


def _measured(columns: Sequence[Column], block: Block) -> dict[str, Measurement]:
    """Title -> measurement with the block's card, of columns that are one version; the base first."""
    found = {}
    for column in sorted(columns, key=lambda column: column.title != block.base):
        if len(column.entries) == 1 and (m := column.entries[0].on(block.quantity, block.card)) is not None:
            found[column.title] = m
    return found


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
