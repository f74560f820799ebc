"""A picture of how much each noise level counts in the training loss."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.report.pictures.canvas import BLUE, GREEN, INK, ORANGE, PURPLE, QUIET, headline, label_ends, page, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from diffusion.process import NoiseSchedule, Weighting

Floats = NDArray[np.float64]

_FIXED = "\ndrawn with σₜ² = β̃ₜ; the network trains its own"
_COLOURS = {"none": INK, "snr": GREEN, "min_snr": ORANGE, "p2": PURPLE, "bound": BLUE}


def loss_weights(
    schedule: NoiseSchedule,
    weightings: Mapping[str, Weighting],
    path: Path,
    used: str | None = None,
    *,
    learned_variance: bool = False,
) -> None:
    """How much each time counts in the loss: w_t of ||eps - eps_hat||^2, divided by its mean over t = 1..T.

    The first time is a dot apart: the bound has L_0 there, so its weight may be far from that of the next.

    Args:
        weightings: name -> weighting; curves that coincide are drawn as one line of dashes in turn.
        used: the name of the one that this run trains with, drawn thicker.
        learned_variance: whether the network says its own, which changes the weight `bound` from the one that is drawn.
    """
    shown = slice(1, schedule.T if schedule.zero_snr else schedule.T + 1)  # there is no place for a log SNR of -inf
    log_snr, times = np.asarray(schedule.log_snr)[shown], np.asarray(schedule.time)[shown]
    curves = {name: np.asarray(weighting.of_eps(schedule))[shown] for name, weighting in weightings.items()}
    curves = {name: weight / weight.mean() for name, weight in curves.items()}
    with page(path, 980) as figure:
        headline(figure, _halves(times, log_snr, curves, used))
        axes = figure.subplots()
        for name, weight in curves.items():
            same = [other for other in curves if _coincide(weight, curves[other])]
            turn, colour, width = same.index(name), _COLOURS.get(name, QUIET), 3.0 if name == used else 1.5
            dash = 7 / width  # matplotlib multiplies it by the width
            style = "-" if len(same) == 1 else (dash * turn, (dash, dash * (len(same) - 1)))
            text = f"{name}:  {weightings[name].formula}" + _FIXED * (learned_variance and name == "bound")
            axes.plot(
                log_snr[1:], weight[1:], ls=style, color=colour, lw=width, dash_capstyle="butt", label=text, zorder=3
            )
            size = 3 + width + 2.5 * (len(same) - 1 - turn)
            axes.plot(log_snr[:1], weight[:1], "o", color=colour, markersize=size, markeredgewidth=0, zorder=3)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        wide = float(np.divide(*axes.get_ylim()[::-1])) > 100
        axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if not wide and f"{value:e}"[0] in "25" else "")
        axes.set_title(f"weight wₜ of (ε − ε̂)², divided by its mean over all t; dots: t = {times[0]}")
        axes.set_xlabel("log SNR, from little noise to almost only noise")
        axes.invert_xaxis()
        _times(axes, times, log_snr)
        figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=9, handlelength=3)
        figure.draw_without_rendering()
        ends = [
            (float(log_snr[-1]), float(w[-1]), f"{name}, in use" if name == used else name, _COLOURS.get(name, QUIET))
            for name, w in curves.items()
        ]
        label_ends(axes, ends)


def _halves(times: NDArray[np.int64], log_snr: Floats, curves: Mapping[str, Floats], used: str | None) -> str:
    """The headline: from which times the one in use, or the two most different ones, have half of their weight."""
    half = {name: int(np.searchsorted(weight.cumsum(), 0.5 * weight.sum())) for name, weight in curves.items()}
    if used is None:
        low, high = min(half, key=lambda name: half[name]), max(half, key=lambda name: half[name])
        if half[low] == half[high]:
            return f"Half of the weight lies on t ≤ {times[half[low]]} with each weighting"
        return (
            f"Half of the weight lies on t ≤ {times[half[low]]} with “{low}”, on t ≤ {times[half[high]]} with “{high}”"
        )
    k = half[used]
    if k == 0:
        return f"“{used}”, in use, has {curves[used][0] / curves[used].sum():.0%} of its weight on t = {times[0]} alone"
    snr = signed(f"{log_snr[k]:+.1f}")
    return f"“{used}”, in use, has half of its weight on t ≤ {times[k]} (log SNR {snr} and above)"


def _coincide(one: Floats, other: Floats) -> bool:
    """Whether two curves lie on each other for most times."""
    return bool(np.mean(np.abs(np.log(one) - np.log(other)) < 0.02) > 0.8)


def _times(axes: Axes, times: NDArray[np.int64], log_snr: Floats) -> None:
    """Mark t along the top: its ends, and of the round numbers what fits."""
    T = int(times[-1])
    tens = [10**k for k in range(len(str(T)))]
    wanted = [int(times[0]), T, *tens, *(5 * ten for ten in tens), *(2 * ten for ten in tens)]
    wanted += [round(T * k / 10) for k in range(1, 10)]
    least = 0.06 * abs(float(np.diff(axes.get_xlim())[0]))
    chosen: dict[int, float] = {}
    for t in wanted:
        k = int(np.searchsorted(times, t))
        if k < len(times) and times[k] == t and all(abs(log_snr[k] - x) >= least for x in chosen.values()):
            chosen[t] = float(log_snr[k])
    top = axes.secondary_xaxis("top")
    top.set_xticks(list(chosen.values()), [f"t = {t}" if t == times[0] else str(t) for t in chosen])
    top.tick_params(length=3)
