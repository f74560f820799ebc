"""Which first time to use, from the bound for each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Float64s = NDArray[np.float64]

REACH = 0.1
"""In log SNR: over how much L_0 is smoothed on either side. It bends so little that the line is off by
REACH^2 / 6 of its second derivative, about 0.002 bits/dim where that is 1."""


@dataclass(frozen=True)
class Choice:
    """Of a curve."""

    lowest: int
    """The first time with the lowest bound."""
    level: tuple[int, ...]
    """Those whose bound is no more than two paired standard errors above it, increasing; itself among them."""

    @property
    def first_time(self) -> int:
        """The smallest of these: of chains that cannot be told apart, the one that leaves out least of the process."""
        return self.level[0]


def choose(curve: pd.DataFrame) -> Choice:
    """Which first time is lowest, and which cannot be told apart from it.

    Args:
        curve: columns `first_time` (increasing), `total`, `difference` (to the lowest total) and `difference_se`.
    """
    first_times = curve["first_time"].to_numpy()
    level = (curve["difference"] <= 2 * curve["difference_se"]).to_numpy()
    return Choice(int(first_times[curve["total"].to_numpy().argmin()]), tuple(first_times[level].tolist()))


def smoothed(L_0: Float64s, log_snr: Float64s) -> Float64s:
    """L_0 without most of the chance of its noise, image by image, so that differences and their errors stay honest.

    L_0 of an image rests on one draw of noise at each time; its expectation is a smooth function of log SNR. Without
    this the lowest of many first times is the luckiest one. Times that lie further apart than REACH stay as they are,
    and so does the last: a chain of one step has another variance (`first_variance`).

    Args:
        L_0: (N, T), bits/dim.
        log_snr: (T,), decreasing.
    """
    lines = local_lines(-log_snr[:-1], L_0[:, :-1], REACH)
    return np.concatenate([lines, L_0[:, -1:]], axis=1)


def local_lines(x: Float64s, y: Float64s, reach: float) -> Float64s:
    """At each x the least-squares line through the points no further than `reach` from it: (N, T).

    Args:
        x: (T,), increasing.
        y: (N, T).
    """
    first, after = np.searchsorted(x, x - reach), np.searchsorted(x, x + reach, side="right")

    def mean(values: Float64s) -> Float64s:
        sums = np.concatenate([np.zeros((*values.shape[:-1], 1)), values.cumsum(axis=-1)], axis=-1)
        return np.asarray((sums[..., after] - sums[..., first]) / (after - first))

    mean_x, mean_y = mean(x), mean(y)
    alone = after - first == 1
    spread = np.where(alone, 1.0, mean(x**2) - mean_x**2)
    slope = np.where(alone, 0.0, mean(x * y) - mean_x * mean_y) / spread
    return np.where(alone, y, mean_y + slope * (x - mean_x))
