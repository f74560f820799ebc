"""The picture of what the classifier of noised images knows at each noise level."""

from __future__ import annotations

from math import log2
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.report.pictures.canvas import BLUE, PURPLE, QUIET, headline, page, signed

if TYPE_CHECKING:
    import pandas as pd


def accuracy_by_time(frame: pd.DataFrame, classes: int, path: Path) -> None:
    """How often the classifier is right against t, and how many bits of the class it does not know.

    Args:
        frame: columns `t` (increasing), `log_snr`, `accuracy`, `accuracy_low`, `accuracy_high`, `bits`, `bits_se`.
    """
    t, accuracy, bits, error = (frame[name].to_numpy() for name in ("t", "accuracy", "bits", "bits_se"))
    known = np.flatnonzero(accuracy >= (1 + 1 / classes) / 2)
    last = int(known[-1]) if len(known) else 0
    with page(path, 760) as figure:
        snr = signed(f"{frame['log_snr'].iloc[last]:+.1f}")
        least = accuracy[: last + 1].min()
        headline(figure, f"Up to t = {t[last]} (log SNR {snr}) the classifier is right in {least:.0%} or more")
        left, right = figure.subplots(1, 2)
        left.fill_between(t, frame["accuracy_low"], frame["accuracy_high"], color=BLUE, alpha=0.2, lw=0)
        left.plot(t, accuracy, color=BLUE, marker=".")
        left.axhline(1 / classes, color=QUIET, linestyle="--", linewidth=1)
        left.annotate(
            "by chance", (t[0], 1 / classes), xytext=(0, 5), textcoords="offset points", color=QUIET, fontsize=9
        )
        left.set_ylim(0, 1.02)
        left.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        left.set_title("right on validation images, with the 95% interval")
        right.fill_between(t, np.maximum(bits - 1.96 * error, 0), bits + 1.96 * error, color=PURPLE, alpha=0.2, lw=0)
        right.plot(t, bits, color=PURPLE, marker=".")
        right.axhline(log2(classes), color=QUIET, linestyle="--", linewidth=1)
        right.annotate(
            f"{classes} classes, equally likely", (t[0], log2(classes)), xytext=(0, 5), textcoords="offset points",
            color=QUIET, fontsize=9,
        )  # fmt: skip
        right.set_ylim(0, log2(classes) * 1.15)
        right.set_title("bits of the class that it does not know")
        for axes in (left, right):
            axes.set_xlabel("t, from little noise to almost only noise")
