"""The picture of the choice where the decoder takes over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.report.pictures.canvas import BLUE, INK, ORANGE, PURPLE, headline, label_ends, page, signed

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FAR = 2.5
"""Bits/dim that are shown above the terms of the lowest total: a decoder asked too late costs any number of them."""

_NEAR = 0.1
"""Bits/dim above the lowest total that are shown below."""


def first_time_curve(frame: pd.DataFrame, path: Path) -> None:
    """The bound against the time at which the decoder takes over, what it is made of, and where it is lowest.

    Args:
        frame: columns `first_time` (increasing), `L_t_sum`, `L_0`, `total`, `total_se`, `difference` (to the lowest
            total), `difference_se` and `measured` (the total before its L_0 was smoothed), in bits/dim.
    """
    k = int(frame["total"].to_numpy().argmin())
    t, bits = int(frame["first_time"].iloc[k]), float(frame["total"].iloc[k])
    with page(path, 1000) as figure:
        headline(figure, signed(f"The bound is lowest if the decoder takes over at t = {t}: {bits:.3f} bits/dim"))
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
        above.plot(t, bits, "o", color=PURPLE, markersize=6, zorder=3)
        _closely(below, frame, bits)
        below.set_xscale("log")
        below.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        below.set_xlabel("first time t, at which the decoder takes over")
        _terms(figure, above, frame, k)


def _terms(figure: Figure, axes: Axes, frame: pd.DataFrame, lowest: int) -> None:
    """The total and its parts, as far up as they matter; `lowest` is the row of the lowest total."""
    t, total, error = (frame[name].to_numpy() for name in ("first_time", "total", "total_se"))
    terms = {"total": ("total", INK), "L_t_sum": ("sum of Lₜ", BLUE), "L_0": ("L₀", ORANGE)}
    values = frame[list(terms)].to_numpy()
    low, high = min(0.0, values.min()), min(values.max(), values[lowest].max() + _FAR)
    room = 0.05 * (high - low)
    axes.fill_between(t, total - 1.96 * error, total + 1.96 * error, color=INK, alpha=0.15, lw=0)
    ends = []
    for column, (name, colour) in terms.items():
        curve = frame[column].to_numpy()
        axes.plot(t, curve, color=colour, marker="." if len(t) == 1 else None)
        ends.append((float(t[-1]), min(float(curve[-1]), high), name, colour))
    axes.set_ylim(low - room * (low < 0), high + room)
    axes.set_title("bits/dim, the total with its 95% interval over images")
    figure.draw_without_rendering()
    label_ends(axes, ends)


def _closely(axes: Axes, frame: pd.DataFrame, lowest: float) -> None:
    """The total near its lowest value, and which first times cannot be told from that one."""
    t, apart, error = (frame[name].to_numpy() for name in ("first_time", "difference", "difference_se"))
    level = apart <= 2 * error
    axes.plot(
        t, frame["measured"] - lowest, color=INK, alpha=0.3, linewidth=0.8, label="L₀ as measured, one draw of noise"
    )
    axes.plot(t, apart, color=INK, label="L₀ smoothed over log SNR")
    axes.fill_between(t, apart - 1.96 * error, apart + 1.96 * error, color=PURPLE, alpha=0.2, lw=0)
    told = f"not told apart from it: {t[level][0]} to {t[level][-1]}"
    axes.plot(t[level], apart[level], "o", color=PURPLE, markersize=4, label=told)
    axes.set_title("above the lowest, with the 95% interval of that difference image by image")
    axes.set_ylim(-_NEAR / 3, _NEAR)
    axes.legend(frameon=False, fontsize=9, loc="upper right")
