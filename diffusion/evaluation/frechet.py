"""The Fréchet distance of two Gaussians, from eigenvalues.

clean-fid's function takes `scipy.linalg.sqrtm` of a product that is not symmetric: the root turns complex when the
product is close to singular, takes ten times as long at 2048 features, and is called with an argument that SciPy 1.18
removes. Where it is stable the two agree.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffusion.evaluation.moments import Moments

Float64s = NDArray[np.float64]


def frechet_distance(mean_1: ArrayLike, covariance_1: ArrayLike, mean_2: ArrayLike, covariance_2: ArrayLike) -> float:
    """d^2 = |m_1 - m_2|^2 + Tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)). Dowson & Landau 1982; Heusel et al. 2017, eq. 6.

    With S_1 = L L' the product S_1 S_2 has the eigenvalues of the symmetric L' S_2 L, so the trace of its root is the
    sum of their roots. Singular covariances are allowed. This is the squared distance that is reported as FID.

    Args:
        mean_1, mean_2: (d,).
        covariance_1, covariance_2: (d, d), symmetric and positive semi-definite.

    Raises:
        ValueError: shapes that do not match, values that are not finite, or a matrix that is no covariance.
    """
    m_1, S_1 = _checked(mean_1, covariance_1)
    m_2, S_2 = _checked(mean_2, covariance_2)
    if m_1.shape != m_2.shape:
        raise ValueError(f"both Gaussians must have the same features, got {len(m_1)} and {len(m_2)}")
    L, _ = _factor(S_1), _factor(S_2)  # the second only to refuse what is no covariance
    eigenvalues = np.linalg.eigvalsh(L.T @ S_2 @ L)
    root_trace = np.sqrt(eigenvalues.clip(min=0)).sum()
    distance = ((m_1 - m_2) ** 2).sum() + np.trace(S_1) + np.trace(S_2) - 2 * root_trace
    return max(0.0, float(distance))  # rounding alone takes it below


def check_full_rank(moments: Moments, what: str) -> None:
    """Refuse statistics in which some direction of the features has no variance at all.

    Args:
        what: whose statistics they are, for the message: "the training split".

    Raises:
        ValueError: fewer than d + 1 vectors, or features that are constant or depend on one another.
    """
    d = len(moments.mean)
    if moments.n < d + 1:
        raise ValueError(
            f"the covariance of {d} features of {what} is singular with {moments.n} images: "
            f"it needs at least {d + 1}; use more images or fewer features"
        )
    variances = np.linalg.eigvalsh(moments.covariance)
    rank = int((variances > variances[-1] * d * np.finfo(np.float64).eps).sum())
    if rank < d:
        raise ValueError(
            f"the covariance of {d} features of {what} is singular: only {rank} directions vary; "
            "use fewer features, or images that differ more"
        )


def _checked(mean: ArrayLike, covariance: ArrayLike) -> tuple[Float64s, Float64s]:
    m, S = np.asarray(mean, dtype=np.float64), np.asarray(covariance, dtype=np.float64)
    if m.ndim != 1 or S.shape != (len(m), len(m)):
        raise ValueError(f"a Gaussian needs a mean (d,) and a covariance (d, d), got {m.shape} and {S.shape}")
    if not (np.isfinite(m).all() and np.isfinite(S).all()):
        raise ValueError("mean and covariance must be finite")
    if not np.allclose(S, S.T, rtol=1e-8, atol=1e-12 * max(1.0, float(np.abs(S).max(initial=0)))):
        raise ValueError("a covariance must be symmetric")
    return m, (S + S.T) / 2


def _factor(S: Float64s) -> Float64s:
    """L with S = L L'. Cholesky is ten times as fast as eigenvectors, which singular matrices need."""
    try:
        return np.asarray(np.linalg.cholesky(S), dtype=np.float64)
    except np.linalg.LinAlgError:
        variances, directions = np.linalg.eigh(S)
        if variances[0] < -1e-8 * max(variances[-1], 0.0):
            raise ValueError(
                f"a covariance must be positive semi-definite, got the eigenvalue {variances[0]:.3g}"
            ) from None
        root: Float64s = directions * np.sqrt(variances.clip(min=0))
        return root
