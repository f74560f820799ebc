"""A picture of the bound while training: its terms, and the L_t by ranges of times."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.report.pictures.canvas import (
    BLUE,
    DPI,
    GREEN,
    INK,
    ORANGE,
    QUIET,
    headline,
    label_ends,
    log_where_positive,
    page,
    signed,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
End = tuple[float, float, str, str]
"""x, y, text and colour, for `label_ends`."""

_TERMS = {"total": ("total", INK), "L_t_sum": ("sum of Lₜ", BLUE), "L_0": ("L₀", ORANGE), "L_T": ("L_T", GREEN)}
_FEW = 12
"""Points of a curve, below which each is marked."""


def terms_over_training(running: pd.DataFrame, validation: pd.DataFrame, path: Path) -> bool:
    """The bound while training: its terms, and the sum of L_t split into bins of times.

    Args:
        running: columns `step`, `L_T`, `L_t_sum`, `L_0`, `total`, `total_se` and `L_t_01`, `L_t_02`, .. (bins of times
            from low to high t), all in bits/dim: of the raw weights on training images. May be empty.
        validation: the same columns, on validation images. May be empty.

    Returns:
        Whether there was anything to draw; if not, no file is written.
    """
    if running.empty and validation.empty:
        return False
    with page(path, 940) as figure:
        headline(figure, _course(running, validation))
        grid = figure.add_gridspec(2, 2, width_ratios=[1.15, 1], height_ratios=[3, 2])
        above = figure.add_subplot(grid[0, 0])
        below = figure.add_subplot(grid[1, 0], sharex=above)
        right = figure.add_subplot(grid[:, 1])
        for axes, names in ((above, ("total", "L_t_sum")), (below, ("L_0", "L_T"))):
            for name in names:
                _term(axes, name, running, validation)
        above.set_title("total and sum of Lₜ, bits/dim" + _cut_start(above, running, validation))
        above.tick_params(labelbottom=False)
        below.set_title("L₀ and L_T, bits/dim")
        log_where_positive(below)
        frame, images = (validation, "validation") if running.empty else (running, "training")
        bins = _bins(right, frame)
        right.set_title(f"Lₜ in {len(bins)} bins, {images} images, bits/dim")
        log_where_positive(right)
        for axes in (below, right):
            last = max(float(f["step"].max()) for f in (running, validation) if len(f))
            axes.set_xlim(-0.03 * last, 1.04 * last)
            axes.set_xlabel("step")
        _key(figure, running, validation)
        figure.draw_without_rendering()
        label_ends(above, [_end(name, running, validation) for name in ("total", "L_t_sum")])
        label_ends(below, [_end(name, running, validation) for name in ("L_0", "L_T")])
        label_ends(right, _apart(right, bins))
    return True


def _course(running: pd.DataFrame, validation: pd.DataFrame) -> str:
    """The headline: where both bounds end."""
    parts = []
    if len(running):
        parts.append(
            f"{_smooth(_column(running, 'total'))[-1]:.3f} bits/dim on training{'' if len(validation) else ' images'}"
        )
    if len(validation):
        unit = "" if parts else " bits/dim"
        parts.append(f"{validation['total'].iloc[-1]:.3f}{unit} on validation images")
    return signed("The bound ends at " + " and ".join(parts))


def _term(axes: Axes, name: str, running: pd.DataFrame, validation: pd.DataFrame) -> None:
    """One term of both bounds: a line over faint points, and markers with the interval of the total."""
    colour = _TERMS[name][1]
    if len(running):
        step, values = _column(running, "step"), _column(running, name)
        axes.plot(step, values, ".", color=colour, alpha=0.22, markersize=3.5, markeredgewidth=0)
        axes.plot(step, _smooth(values), "o-" if len(step) < _FEW else "-", color=colour, linewidth=1.3, markersize=3)
    if len(validation):
        error = 1.96 * np.nan_to_num(_column(validation, "total_se")) if name == "total" else None
        axes.errorbar(
            _column(validation, "step"),
            _column(validation, name),
            yerr=error,
            fmt="o:",
            color=colour,
            linewidth=0.9,
            elinewidth=1.1,
            capsize=2.5,
            markersize=4.5,
            markerfacecolor="white",
            markeredgewidth=1.2,
        )


def _end(name: str, running: pd.DataFrame, validation: pd.DataFrame) -> End:
    """Where this term's curve ends: of the bound that goes on for longer."""
    ends = [(_column(running, "step")[-1], _smooth(_column(running, name))[-1])] if len(running) else []
    if len(validation):
        ends.append((_column(validation, "step")[-1], _column(validation, name)[-1]))
    x, y = max(ends, key=lambda end: float(end[0]))
    return float(x), float(y), *_TERMS[name]


def _cut_start(axes: Axes, running: pd.DataFrame, validation: pd.DataFrame) -> str:
    """Where the first values would squash the rest, end the y axis above the last nine tenths, and say so."""
    step, values = (
        np.concatenate([_column(frame, name) for frame in (running, validation) for name in names])
        for names in (("step", "step"), ("total", "L_t_sum"))
    )
    step, values = step[np.isfinite(values)], values[np.isfinite(values)]
    least, most = values.min(), values.max()
    late = values[step >= 0.1 * step.max()].max()
    if not most - least > 2 * (late - least) > 0:
        return ""
    room = 0.1 * (late - least)
    axes.set_ylim(least - room, late + room)
    return f" (cut off: up to {most:.4g})"


def _bins(axes: Axes, frame: pd.DataFrame) -> list[End]:
    """A curve for each bin of times, from dark (low t) to light (high t); returns their ends."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    names = sorted(n for n in map(str, frame.columns) if n.removeprefix("L_t_").isdecimal() and frame[n].notna().any())
    step = _column(frame, "step")
    ends = []
    for k, name in enumerate(names):
        colour = to_hex(colormaps["viridis"](0.88 * k / max(len(names) - 1, 1)))
        values = _smooth(_column(frame, name))
        axes.plot(step, values, "o-" if len(step) < _FEW else "-", color=colour, linewidth=1.3, markersize=3)
        known = np.flatnonzero(np.isfinite(values))[-1]
        ends.append((float(step[known]), float(values[known]), str(int(name.removeprefix("L_t_"))), colour))
    return ends


def _apart(axes: Axes, ends: list[End]) -> list[End]:
    """Those ends whose names do not touch: the first and last bin, and of the others what fits."""
    least = 12 / 72 * DPI
    kept: list[tuple[float, End]] = []
    for end in [*ends[:1], *ends[:0:-1]]:
        height = float(axes.transData.transform(end[:2])[1])
        if all(abs(height - other) >= least for other, _ in kept):
            kept.append((height, end))
    return [end for _, end in kept]


def _key(figure: Figure, running: pd.DataFrame, validation: pd.DataFrame) -> None:
    """The legend below: which mark is which bound, and what the numbers of the bins mean."""
    from matplotlib.lines import Line2D

    marks = []
    if len(running):
        marks.append(Line2D([], [], color=QUIET, label="training images, raw weights, smoothed"))
    if len(validation):
        ring = Line2D([], [], color=QUIET, linestyle=":", marker="o", markerfacecolor="white", markersize=4.5)
        ring.set_label("validation, averaged weights (95%)")
        marks.append(ring)
    marks.append(Line2D([], [], linestyle="", label="1, 2, ..: bins from low to high t"))
    figure.legend(handles=marks, loc="outside lower left", ncols=3, frameon=False, fontsize=9, columnspacing=1.6)


def _column(frame: pd.DataFrame, name: str) -> Floats:
    return frame[name].to_numpy(dtype=np.float64)


def _smooth(values: Floats) -> Floats:
    """The mean over about a twentieth of the points around each, over fewer at the steep start; nan counts for none."""
    at = np.arange(len(values))
    half = np.minimum(max(len(values) // 40, 1), at) if len(values) >= _FEW else 0 * at
    last = np.minimum(at + half, len(values) - 1)
    first = np.maximum(last - 2 * half, 0)
    known = np.concatenate([[0], np.cumsum(np.isfinite(values))])
    total = np.concatenate([[0.0], np.cumsum(np.where(np.isfinite(values), values, 0.0))])
    count = known[last + 1] - known[first]
    return np.where(count > 0, (total[last + 1] - total[first]) / np.maximum(count, 1), np.nan)
