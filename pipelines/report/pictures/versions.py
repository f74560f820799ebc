"""Pictures of several models on one page: their terms over time, and what each image costs two of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.report.pictures.canvas import BLUE, GREEN, HAIR, INK, ORANGE, PURPLE, QUIET, headline, page

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, INK, QUIET)
"""Of the curves, as many as there can be."""


def terms_of_versions(curves: Mapping[str, pd.DataFrame], path: Path) -> None:
    """L_t against t of each model, and the sum up to t: less that of the first one where there are others.

    Args:
        curves: title -> columns `t` (increasing), `L_t`, `L_t_se`, in bits/dim; at most `len(COLOURS)` of them.
    """
    with page(path, 860) as figure:
        headline(figure, "Where the bits go: the terms of the bound against t")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
        for (title, frame), colour in zip(curves.items(), COLOURS, strict=False):
            t, mean, error = (frame[name].to_numpy(dtype=np.float64) for name in ("t", "L_t", "L_t_se"))
            low = np.maximum(mean - 1.96 * error, 1e-12)
            above.fill_between(t, low, mean + 1.96 * error, color=colour, alpha=0.15, lw=0)
            above.plot(t, mean, color=colour, label=title, marker="o" if len(t) == 1 else None)
        above.set_xscale("log")
        above.set_yscale("log")
        highest = max(float(frame["L_t"].max()) for frame in curves.values())
        lowest = min(float(frame["L_t"].min()) for frame in curves.values())
        above.set_ylim(max(lowest / 3, highest * 1e-5), highest * 3)
        above.set_title("Lₜ in bits/dim, with its 95% interval over images")
        above.legend(frameon=False, fontsize=9, loc="upper right")
        _sums(below, curves)
        below.set_xlabel("t")
        below.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        below.xaxis.set_minor_formatter(lambda value, _: "")


def _sums(axes: Axes, curves: Mapping[str, pd.DataFrame]) -> None:
    first, base = next(iter(curves.items()))
    of_same_times = [frame["t"].to_numpy().tolist() == base["t"].to_numpy().tolist() for frame in curves.values()]
    compared = sum(of_same_times) > 1
    for frame, same, colour in zip(curves.values(), of_same_times, COLOURS, strict=False):
        if same or not compared:
            less = base["L_t"].to_numpy(dtype=np.float64) if compared else 0.0
            axes.plot(frame["t"], (frame["L_t"].to_numpy(dtype=np.float64) - less).cumsum(), color=colour)
    axes.set_title(f"sum up to t, less that of {first}: below zero is better" if compared else "sum up to t")


def image_by_image(first: str, second: str, frame: pd.DataFrame, path: Path) -> None:
    """What each image costs two models, one against the other, and the spread of the differences.

    Args:
        frame: columns `first` and `second`, the bits/dim of the same images.
    """
    x, y = frame["first"].to_numpy(dtype=np.float64), frame["second"].to_numpy(dtype=np.float64)
    with page(path, 760) as figure:
        cheaper = float((y < x).mean())
        headline(figure, f"{second} codes {cheaper:.0%} of the images in fewer bits than {first}")
        left, right = figure.subplots(1, 2)
        low, high = min(x.min(), y.min()), max(x.max(), y.max())
        room = 0.03 * (high - low or 1.0)
        left.plot([low - room, high + room], [low - room, high + room], color=QUIET, linewidth=1)
        left.scatter(x, y, s=9, color=BLUE, alpha=0.55, linewidths=0)
        left.set_xlabel(f"bits/dim by {first}")
        left.set_ylabel(f"bits/dim by {second}")
        left.set_title("each image, one dot; below the line is better")
        left.set_aspect("equal", adjustable="datalim")
        right.hist(y - x, bins="fd", color=BLUE, edgecolor=HAIR, linewidth=0.5)
        right.axvline(0, color=QUIET, linewidth=1)
        right.axvline(float((y - x).mean()), color=ORANGE)
        right.set_title(f"difference, mean {np.mean(y - x):+.4f} bits/dim".replace("-", "−"))
        right.set_xlabel(f"{second} less {first}, bits/dim")
        right.set_ylabel("images")
