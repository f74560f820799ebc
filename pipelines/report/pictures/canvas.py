"""The page that every picture is drawn on: one size, one style, reproducible bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 200
WIDTH_PX = 1660
"""Shown at half size on a page, where letters of 10 points are 14 pixels high."""

INK = "#1f2328"
QUIET = "#6e7781"
HAIR = "#d8dee4"
SHADE = "#f3f5f7"
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#aa4499"
"""Told apart by colour-blind readers too (after Okabe and Ito)."""

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine has it
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": HAIR,
    "grid.linewidth": 0.6,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "axes.formatter.useoffset": False,
}


@contextmanager
def page(path: Path, height_px: int, layout: Any = "constrained") -> Iterator[Figure]:
    """A blank page; what the block draws is written to `path` when it ends."""
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", _STYLE]):
        figure = Figure(figsize=(WIDTH_PX / DPI, height_px / DPI), dpi=DPI, layout=layout)
        FigureCanvasAgg(figure)
        yield figure
        figure.savefig(path, dpi=DPI, metadata={"Software": None})


def headline(figure: Figure, text: str) -> None:
    """The sentence above a picture of curves that says what one sees."""
    figure.suptitle(text, x=0.012, ha="left", fontsize=12, fontweight="bold")


def signed(text: str) -> str:
    """With minus signs that are as long as a plus; none before a bare 0, and a plus before 0.0."""
    bare = re.sub(r"-(?=0(?![\d.]))", "", text)
    return re.sub(r"-(?=0\.0+(?!\d))", "+", bare).replace("-", "−")


def log_where_positive(axes: Axes) -> None:
    """A logarithmic y axis, unless a curve reaches 0 or less (the L_0 of a density may)."""
    curves = [np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.lines]
    values = np.concatenate(curves) if curves else np.zeros(1)
    if np.nanmin(values) > 0:
        wide = np.nanmax(values) > 100 * np.nanmin(values)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if not wide and f"{value:e}"[0] in "25" else "")
        axes.tick_params(axis="y", which="minor", labelsize=8)


def spread(values: list[float], gap: float) -> list[float]:
    """Positions close to `values`, in the same order, at least `gap` apart, for labels beside curves."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    placed = list(values)
    for _ in range(200):
        for low, high in pairwise(order):
            lack = gap - (placed[high] - placed[low])
            if lack > 1e-9:
                placed[low] -= lack / 2
                placed[high] += lack / 2
    return placed


def label_ends(axes: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Write each curve's name at its right end, pushed apart where they would touch.

    Args:
        ends: for each curve x and y of its end in data coordinates, its text and its colour.
    """
    height_points = axes.get_window_extent().height * 72 / DPI
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = spread([float(to_axes.transform((x, y))[1]) for x, y, _, _ in ends], gap=13 / height_points)
    for (_, _, text, colour), height in zip(ends, heights, strict=True):
        axes.annotate(
            text,
            (1.0, height),
            xycoords="axes fraction",
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=9.5,
        )
