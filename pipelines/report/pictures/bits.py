"""A picture of where the bits of a finished model go: the bound by ranges of times."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.report.pictures.canvas import BLUE, GREEN, INK, ORANGE, QUIET, headline, page, signed

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIGNAL, _NOISE = "Lₜ, more signal than noise", "Lₜ, more noise than signal"
_COLOURS = {"L₀": ORANGE, _SIGNAL: BLUE, _NOISE: "#7fb8d8", "L_T": GREEN}


def bound_shares(
    shares: pd.DataFrame, path: Path, *, first_time: int, L_T: float, L_0: float, L_0_se: float = nan
) -> None:
    """The share of the bound that each range of times has, between L_0 and L_T.

    Args:
        shares: one row per bin of times, in increasing time: `first`, `last` (its times; missing in an empty bin, which
            is left out), `log_snr` (in its middle), `bits` (sum of its L_t, bits/dim), `bits_se` (its standard error).
        first_time: that of L_0.
        L_T: bits/dim.
        L_0: bits/dim.
        L_0_se: its standard error; nan for none.
    """
    bars = [
        _Bar("L₀", f"L₀, t = {first_time}", nan, L_0, L_0_se),
        *_bins(shares),
        _Bar("L_T", "L_T, t = T", nan, L_T, nan),
    ]
    total = sum(bar.bits for bar in bars)
    shared = total > 0 and all(bar.bits >= 0 for bar in bars)  # a density's L_0 may lie below 0

    def told(bits: float) -> str:
        return _percent(bits / total) if shared else signed(f"{bits:.3f}")

    with page(path, 230 + 44 * len(bars)) as figure:
        where = _where_most(bars, total) if shared else signed(f"The bound by time: {total:.3f} bits/dim in all")
        headline(figure, where)
        axes = figure.subplots()
        at = np.arange(len(bars))
        bits = np.array([bar.bits for bar in bars])
        error = 1.96 * np.nan_to_num([bar.se for bar in bars])
        axes.barh(at, bits, height=0.74, color=[_COLOURS[bar.kind] for bar in bars])
        seen = error > 0
        axes.errorbar(bits[seen], at[seen], xerr=error[seen], fmt="none", ecolor=INK, elinewidth=1.1, capsize=2.5)
        for y, bar, reach in zip(at, bars, np.maximum(bits + error, 0), strict=True):
            axes.annotate(told(bar.bits), (reach, y), (6, 0), textcoords="offset points", va="center", fontsize=9)
        low, high = min(0.0, (bits - error).min()), max(0.0, (bits + error).max())
        axes.set_xlim(1.05 * low, high + 0.09 * (high - low))
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("bits/dim, with the 95% interval over images")
        _columns(axes, bars)
        _key(figure, {kind: told(sum(bar.bits for bar in bars if bar.kind == kind)) for kind in _COLOURS})


@dataclass(frozen=True)
class _Bar:
    """One bar."""

    kind: str
    """A key of `_COLOURS`."""
    times: str
    log_snr: float
    """nan for L_0 and L_T."""
    bits: float
    se: float
    """nan for none."""


def _bins(shares: pd.DataFrame) -> list[_Bar]:
    full = shares.dropna(subset=["first", "last"])
    rows = zip(*(full[name].tolist() for name in ("first", "last", "log_snr", "bits", "bits_se")), strict=True)
    return [
        _Bar(_SIGNAL if snr > 0 else _NOISE, f"{first:.0f} to {last:.0f}" if last > first else f"{first:.0f}", snr, *of)
        for first, last, snr, *of in rows
    ]


def _where_most(bars: list[_Bar], total: float) -> str:
    """The headline: the shortest run of neighbouring bars that has half of the bits."""
    sums = np.concatenate([[0.0], np.cumsum([bar.bits for bar in bars])])
    runs = [(b - a, sums[a] - sums[b], a, b) for a in range(len(bars)) for b in range(a + 1, len(bars) + 1)]
    _, minus_bits, a, b = min(run for run in runs if -run[1] >= 0.5 * total * (1 - 1e-9))
    names = [bar.kind for bar in bars[a:b] if np.isnan(bar.log_snr)]  # L_0, L_T, both or neither
    if steps := [bar for bar in bars[a:b] if not np.isnan(bar.log_snr)]:
        t, snr = steps[0].times.split(" to ") + steps[-1].times.split(" to "), [steps[0].log_snr, steps[-1].log_snr]
        about = _range(*(signed(f"{x:.0f}") for x in snr))
        names.insert(bars[a:b].index(steps[0]), f"t = {_range(t[0], t[-1])} (log SNR about {about})")
    return f"{-minus_bits / total:.0%} of the {total:.3f} bits/dim go to {' and '.join(names)}"


def _columns(axes: Axes, bars: list[_Bar]) -> None:
    """The times of each bar to its left, its log SNR at the right edge."""
    at = range(len(bars))
    axes.set_yticks(at, [bar.times for bar in bars])
    side = axes.secondary_yaxis("right")
    side.set_yticks(at, ["" if np.isnan(bar.log_snr) else signed(f"{bar.log_snr:+.1f}") for bar in bars])
    side.spines["right"].set_visible(False)
    for column in (axes, side):
        column.tick_params(axis="y", length=0)
    for x, text, ha in ((0, "times t", "right"), (1, "log SNR", "left")):
        shift = (8 * x - 4, 7)
        axes.annotate(text, (x, 1), shift, "axes fraction", "offset points", ha=ha, color=QUIET, fontsize=9)


def _key(figure: Figure, sums: dict[str, str]) -> None:
    """The legend below: each kind of bar, with its sum."""
    from matplotlib.patches import Patch

    figure.legend(
        [Patch(color=_COLOURS[kind]) for kind in sums],
        [f"{kind}: {text}" for kind, text in sums.items()],
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=9,
        handlelength=1.2,
        columnspacing=1.6,
    )


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.1f}%" if percent >= 0.95 or percent == 0 else f"{percent:.1g}%" if percent > 5e-4 else "<0.001%"


def _range(first: str, last: str) -> str:
    return f"{first} to {last}" if first != last else first
