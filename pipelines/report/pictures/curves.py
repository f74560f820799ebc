"""Pictures of curves: the noise schedule, the loss, the bound while training, the bound per timestep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.report.pictures.canvas import (
    BLUE,
    INK,
    ORANGE,
    PURPLE,
    QUIET,
    headline,
    log_where_positive,
    page,
    signed,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from diffusion.process import NoiseSchedule

_HEIGHT = 760


def schedule_curves(schedule: NoiseSchedule, paper: NoiseSchedule, path: Path) -> None:
    """beta_t, sqrt(1 - beta_t) and log SNR against t: of this run, and of the paper's linear schedule beside it."""
    with page(path, _HEIGHT) as figure:
        headline(figure, "The noise schedule of this run, and the linear one of Ho et al. 2020 beside it")
        panels = figure.subplots(1, 3)
        tables = (
            ("variance of a step, βₜ", "beta", False),
            ("signal kept in a step, √(1 − βₜ)", "alpha", True),
            ("log SNR, log ᾱₜ / (1 − ᾱₜ)", "log_snr", False),
        )
        for axes, (title, table, root) in zip(panels, tables, strict=True):
            for s, colour, style in ((paper, QUIET, "--"), (schedule, BLUE, "-")):
                values = np.asarray(getattr(s, table))[1:]
                u = np.arange(1, s.T + 1) / s.T
                axes.plot(u, np.sqrt(values) if root else values, style, color=colour)
            axes.set_title(title)
            axes.set_xlabel("t / T")
        panels[0].plot([], [], "-", color=BLUE, label=f"this run, T = {schedule.T}")
        panels[0].plot([], [], "--", color=QUIET, label=f"linear, T = {paper.T}")
        panels[0].legend(frameon=False, fontsize=9, loc="upper left")


def loss_curve(frame: pd.DataFrame, path: Path, what: str) -> None:
    """The training loss and the gradient's norm, point by point and smoothed.

    Args:
        frame: columns `step`, `loss`, `gradient_norm`.
        what: what the loss is, for its title.
    """
    with page(path, _HEIGHT) as figure:
        last = frame["loss"].tail(max(len(frame) // 20, 1)).mean()
        headline(figure, signed(f"The training loss ends at {last:.3g}"))
        panels = figure.subplots(1, 2)
        for axes, column, title, colour in (
            (panels[0], "loss", what, BLUE),
            (panels[1], "gradient_norm", "norm of the gradient, before clipping", ORANGE),
        ):
            steps, values = frame["step"].to_numpy(), frame[column].to_numpy()
            axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.9)
            axes.plot(steps, _smooth(values), color=colour)
            log_where_positive(axes)
            axes.set_title(title)
            axes.set_xlabel("step")


def bound_per_timestep(frame: pd.DataFrame, path: Path) -> None:
    """Where the bits go: L_t against t with the band of +-1.96 standard errors, and its sum up to t.

    Args:
        frame: columns `t` (increasing), `L_t`, `L_t_se`, in bits/dim.
    """
    t, mean, error = (frame[name].to_numpy(dtype=np.float64) for name in ("t", "L_t", "L_t_se"))
    with page(path, 860) as figure:
        headline(figure, f"Where the bits go: the Lₜ add up to {mean.sum():.3f} bits/dim")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
        above.fill_between(t, np.maximum(mean - 1.96 * error, 1e-12), mean + 1.96 * error, color=BLUE, alpha=0.2, lw=0)
        above.plot(t, mean, color=BLUE, marker="o" if len(t) == 1 else None)
        above.set_xscale("log")
        above.set_yscale("log")
        above.set_ylim(max(mean.min() / 3, mean.max() * 1e-5), (mean + 1.96 * error).max() * 2)
        above.set_title("Lₜ in bits/dim, with its 95% interval over images")
        below.plot(t, mean.cumsum(), color=PURPLE)
        below.set_title("sum up to t, in bits/dim")
        below.set_ylim(0, mean.sum() * 1.25)
        below.set_xlabel("t")
        below.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        _shares(below, t, mean)


def _shares(axes: Axes, t: NDArray[np.float64], mean: NDArray[np.float64]) -> None:
    """Write each decade's share of the sum above the curve, between lines at its ends; where there is room for it."""
    low = 1.0
    while low <= t[-1]:
        inside = (t > low) & (t <= 10 * low)
        if inside.any():
            first, last = t[inside][0], t[inside][-1]
            axes.axvline(last, color=QUIET, linewidth=0.6, linestyle=":")
            text = f"t = {first:.0f} to {last:.0f}: {mean[inside].sum() / mean.sum():.0%}"
            at = (np.sqrt(first * last), mean.sum() * 1.12)
            if np.log10(last / first) > 0.2 * np.log10(t[-1] / t[0]):
                axes.annotate(text, at, ha="center", va="center", fontsize=9, color=INK)
        low *= 10


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over a window of about a twentieth of the points around each, narrower at the ends."""
    reach = max(len(values) // 40, 1)
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    half = np.minimum(reach, np.minimum(at, len(values) - 1 - at))
    smoothed: NDArray[np.float64] = (total[at + half + 1] - total[at - half]) / (2 * half + 1)
    return smoothed
