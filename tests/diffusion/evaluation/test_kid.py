"""The kernel distance against its definition, against clean-fid, and its standard error on Gaussian features."""

import numpy as np
import pytest
from numpy.typing import NDArray

from diffusion.evaluation import kid

Float64s = NDArray[np.float64]


def _kernel(x: Float64s, y: Float64s) -> float:
    return float((x @ y / len(x) + 1) ** 3)


def _gaussian_mean_kernel(m_1: Float64s, S_1: Float64s, m_2: Float64s, S_2: Float64s) -> float:
    """E k(x, y) for independent x and y: with s = x . y / d it is 1 + 3 E s + 3 E s^2 + E s^3, and
    E (x . y)^p is the product, summed over all indices, of the p-th moments of x and of y.
    """

    def second(m: Float64s, S: Float64s) -> Float64s:
        return S + np.outer(m, m)

    def third(m: Float64s, S: Float64s) -> Float64s:
        mS = np.einsum("a,bc->abc", m, S)
        return np.einsum("a,b,c->abc", m, m, m) + mS + mS.transpose(1, 0, 2) + mS.transpose(1, 2, 0)

    d = len(m_1)
    once, twice = m_1 @ m_2, (second(m_1, S_1) * second(m_2, S_2)).sum()
    return float(1 + 3 * once / d + 3 * twice / d**2 + (third(m_1, S_1) * third(m_2, S_2)).sum() / d**3)


def test_by_the_definition() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((5, 3)) + 1, rng.standard_normal((6, 3))
    xx = np.mean([_kernel(x[i], x[j]) for i in range(5) for j in range(5) if i != j])
    yy = np.mean([_kernel(y[i], y[j]) for i in range(6) for j in range(6) if i != j])
    xy = np.mean([_kernel(a, b) for a in x for b in y])
    assert kid(x, y).value == pytest.approx(xx + yy - 2 * xy, rel=1e-12)


@pytest.mark.parametrize("n", [50, 1500], ids=["one block", "blocks"])
def test_agreement_with_clean_fid_on_a_subset_of_full_size(n: int) -> None:
    from cleanfid.fid import kernel_distance

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((n, 24)) + 0.3, rng.standard_normal((n, 24)) @ rng.standard_normal((24, 24)) / 5
    expected = kernel_distance(y, x, num_subsets=1, max_subset_size=n)
    assert kid(x, y).value == pytest.approx(expected, rel=1e-6)
    assert kid(x.astype(np.float32), y.astype(np.float32)).value == pytest.approx(expected, rel=1e-4)


def _variance_by_definition(x: Float64s, y: Float64s) -> float:
    """From whole matrices, each centred before it is squared."""

    def matrix(a: Float64s, b: Float64s) -> Float64s:
        return np.asarray((a @ b.T / a.shape[1] + 1) ** 3)

    def zeta_within(a: Float64s) -> float:
        n, k = len(a), matrix(a, a)
        np.fill_diagonal(k, 0)
        rows = k.sum(axis=0) / (n - 2)
        centred = k - rows - rows[:, None] + k.sum() / ((n - 1) * (n - 2))
        np.fill_diagonal(centred, 0)
        return float((centred**2).sum() / (n * (n - 3)))

    n, m, xy = len(x), len(y), matrix(x, y)
    centred = xy - xy.mean(axis=0) - xy.mean(axis=1, keepdims=True) + xy.mean()
    zeta_xy = (centred**2).sum() / ((n - 1) * (m - 1))
    total = 4 * zeta_xy / (n * m)
    for a, other, between in [(x, m, xy), (y, n, xy.T)]:
        size, k, zeta = len(a), matrix(a, a), zeta_within(a)
        np.fill_diagonal(k, 0)
        s2 = np.var(k.sum(axis=1) / (size - 2) - between.mean(axis=1), ddof=1) - zeta / (size - 2) - zeta_xy / other
        total += 4 * s2 / size + 2 * zeta / (size * (size - 1))
    return float(total)


@pytest.mark.parametrize(("n", "m"), [(30, 20), (1100, 300), (300, 2100)])
def test_the_standard_error_by_its_definition(n: int, m: int) -> None:
    """In one block and in several, which of the sets has more of them."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((n, 2)), rng.standard_normal((m, 2)) + 0.5
    assert kid(x, y).standard_error == pytest.approx(np.sqrt(_variance_by_definition(x, y)), rel=1e-9)


def _repeated(shift: float, repeats: int, n: int, m: int) -> tuple[Float64s, Float64s, float]:
    """Values and standard errors for Gaussians with scales 1 .. 0.5, the first moved; and MMD^2 in closed form."""
    d = 8
    scales, mean, zero = np.linspace(1, 0.5, d), np.full(d, shift), np.zeros(d)
    S = np.diag(scales**2)
    rng = np.random.default_rng(1)
    measured = [
        kid(rng.standard_normal((n, d)) * scales + mean, rng.standard_normal((m, d)) * scales) for _ in range(repeats)
    ]
    truth = (
        _gaussian_mean_kernel(mean, S, mean, S)
        + _gaussian_mean_kernel(zero, S, zero, S)
        - 2 * _gaussian_mean_kernel(mean, S, zero, S)
    )
    return np.array([k.value for k in measured]), np.array([k.standard_error for k in measured]), truth


@pytest.mark.parametrize(("n", "m"), [(200, 150), (60, 250)])
def test_the_standard_error_covers_the_closed_form(n: int, m: int) -> None:
    """Unbiased at any number of images, and 95% of intervals hold the truth; so few images make it some less."""
    values, errors, truth = _repeated(shift=0.3, repeats=600, n=n, m=m)
    assert values.mean() == pytest.approx(truth, abs=3 * values.std() / np.sqrt(len(values)))
    assert np.mean(errors**2) == pytest.approx(values.var(ddof=1), rel=0.2)
    assert 0.90 < np.mean(abs(values - truth) < 1.96 * errors) < 0.98


def test_the_standard_error_where_the_sets_have_one_law() -> None:
    """Only the pairs' parts are left, which a jackknife would count twice: its variance would be twice what it is."""
    values, errors, truth = _repeated(shift=0.0, repeats=600, n=100, m=80)
    assert truth == pytest.approx(0, abs=1e-12)
    assert values.mean() == pytest.approx(0, abs=3 * values.std() / np.sqrt(len(values)))
    assert 0.8 < np.mean(errors**2) / values.var(ddof=1) < 1.6
    assert np.mean(abs(values) < 1.96 * errors) > 0.94
