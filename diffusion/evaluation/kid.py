"""The kernel distance of two sets of features, with a standard error that takes no further pass over the pairs.

With Inception's features this is KID. Other than the Fréchet distance it is unbiased at every number of images.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffusion.evaluation.features import Features, checked_pair, pairs_between, pairs_within
from diffusion.evaluation.statistics import Measured

Float64s = NDArray[np.float64]


def kid(samples: ArrayLike, reference: ArrayLike) -> Measured:
    """MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{ij} k(x_i, y_j).

    With k(x, y) = (x . y / d + 1)^3. Gretton et al. 2012, eq. 3; Binkowski et al. 2018, eq. 4 and section 4. Taken over
    all pairs, where others average over random subsets: the same expectation with a smaller error. It is unbiased, so
    it may be negative where the two sets are alike. The standard error covers the sampling of the images of both sets.

    Cost: (n + m)^2 d / 2 multiplications; memory for the features and a few blocks of 1024 x 1024.

    Args:
        samples: (n, d) with n >= 4.
        reference: (m, d) with m >= 4.

    Raises:
        ValueError: fewer vectors, different features, or a feature that is not finite.
    """
    x, y = checked_pair(samples, reference, least=4)
    xy, yx, zeta_xy = _between(x, y)
    of_x, of_y = _Images(*_within(x), xy / len(y)), _Images(*_within(y), yx / len(x))
    value = of_x.mean_within + of_y.mean_within - 2 * float(of_x.means_between.mean())
    return Measured(value, sqrt(_variance(of_x, of_y, zeta_xy)))


@dataclass(frozen=True, eq=False)
class _Images:
    """What the kernels of the images of one set come to."""

    sums_within: Float64s
    """(n,): for each image, with the others of its set."""
    zeta: float
    """The variance of what k(x, x') is beyond a function of x plus one of x'."""
    means_between: Float64s
    """(n,): for each image, with the other set."""

    @property
    def n(self) -> int:
        return len(self.sums_within)

    @property
    def mean_within(self) -> float:
        return float(self.sums_within.mean()) / (self.n - 1)


def _variance(x: _Images, y: _Images, zeta_xy: float) -> float:
    """Var MMD^2 = 4 s_x^2 / n + 4 s_y^2 / m + 2 zeta_xx / (n (n - 1)) + 2 zeta_yy / (m (m - 1)) + 4 zeta_xy / (n m).

    The parts of single images, s_x^2 = Var_x(E_x' k(x, x') - E_y k(x, y)) and s_y^2 likewise, and those of pairs
    (Hoeffding 1948). Each is estimated without bias, but for noise that must not take the single images' below zero.
    The jackknife would count the pairs twice.
    """
    n, m = x.n, y.n
    of_images = 4 * _single(x, m, zeta_xy) / n + 4 * _single(y, n, zeta_xy) / m
    of_pairs = 2 * x.zeta / (n * (n - 1)) + 2 * y.zeta / (m * (m - 1)) + 4 * zeta_xy / (n * m)
    return max(of_images, 0.0) + max(of_pairs, 0.0)  # rounding alone takes the pairs' below


def _single(x: _Images, m: int, zeta_xy: float) -> float:
    """s_x^2: the variance of what is estimated for each image, less the part that its errors make."""
    estimates = x.sums_within / (x.n - 2) - x.means_between
    return float(estimates.var(ddof=1)) - x.zeta / (x.n - 2) - zeta_xy / m


def _kernel(x: Float64s, y: Float64s) -> Float64s:
    s: Float64s = x @ y.T / x.shape[1] + 1
    return s * s * s


def _within(x: Features) -> tuple[Float64s, float]:
    """(n,), the sums over j != i of k(x_i, x_j), and zeta_xx, centred without bias (Székely & Rizzo 2014)."""
    n = len(x)
    sums, squares = np.zeros(n), 0.0
    for i, j, x_i, x_j in pairs_within(x):
        k = _kernel(x_i, x_j)
        if i == j:
            np.fill_diagonal(k, 0)
        else:
            sums[j] += k.sum(axis=0)
        sums[i] += k.sum(axis=1)
        squares += float(np.vdot(k, k)) * (1 if i == j else 2)
    rest = squares - 2 / (n - 2) * float(sums @ sums) + float(sums.sum()) ** 2 / ((n - 1) * (n - 2))
    return sums, rest / (n * (n - 3))


def _between(x: Features, y: Features) -> tuple[Float64s, Float64s, float]:
    """(n,) and (m,), the sums of k(x_i, y_j) over j and over i, and zeta_xy, the residual of rows plus columns."""
    n, m = len(x), len(y)
    of_x, of_y, squares = np.zeros(n), np.zeros(m), 0.0
    for i, j, x_i, y_j in pairs_between(x, y):
        k = _kernel(x_i, y_j)
        of_x[i] += k.sum(axis=1)
        of_y[j] += k.sum(axis=0)
        squares += float(np.vdot(k, k))
    rest = squares - float(of_x @ of_x) / m - float(of_y @ of_y) / n + float(of_x.sum()) ** 2 / (n * m)
    return of_x, of_y, rest / ((n - 1) * (m - 1))
