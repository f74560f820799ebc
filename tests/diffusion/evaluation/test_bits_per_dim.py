"""The bound of chunks of images, summed up."""

import numpy as np
import pytest
import torch

from diffusion.evaluation import BitsPerDim, Estimate
from diffusion.process import BoundTerms, NoiseSchedule, TimeBins, log_snr_bins


def _terms(n: int, times: int = 4, seed: int = 0) -> BoundTerms:
    g = torch.Generator().manual_seed(seed)
    values = torch.rand(n, times + 1, generator=g, dtype=torch.float64)
    return BoundTerms(L_T=values[:, 0], L_t=values[:, 1:-1], L_0=values[:, -1], times=torch.arange(1, times + 1))


def _bins(times: int, count: int = 2) -> TimeBins:
    """Of a chain with this many steps."""
    return log_snr_bins(NoiseSchedule.cosine(times), count)


def _measured(terms: BoundTerms) -> BitsPerDim:
    return BitsPerDim.of(terms, _bins(len(terms.times)))


def _chunk(terms: BoundTerms, rows: slice) -> BoundTerms:
    return BoundTerms(terms.L_T[rows], terms.L_t[rows], terms.L_0[rows], terms.times)


def test_terms_add_up_to_the_total_of_each_image() -> None:
    terms = _terms(6)
    np.testing.assert_allclose(_measured(terms).total, terms.total.numpy(), rtol=1e-15)


def test_two_images_by_hand() -> None:
    """Bounds 1 + (2 + 3) + 4 = 10 and 3 + (4 + 3) + 2 = 12: mean 11, standard error 1; L_t at t = 2 is 3 +- 1."""
    rows = torch.tensor([[1.0, 2.0, 3.0, 4.0], [3.0, 4.0, 3.0, 2.0]], dtype=torch.float64)
    measured = _measured(BoundTerms(rows[:, 0], rows[:, 1:3], rows[:, 3], torch.tensor([1, 2, 3])))
    estimates = measured.estimates()
    assert estimates.total == Estimate(11.0, pytest.approx(1.0, rel=1e-15))
    assert estimates.L_t_sum == Estimate(6.0, pytest.approx(1.0, rel=1e-15))
    assert estimates.L_t_bins == (Estimate(3.0, pytest.approx(1.0, rel=1e-15)), Estimate(3.0, 0.0))  # t = 2 and t = 3
    assert measured.t.tolist() == [2, 3]
    np.testing.assert_allclose(measured.L_t.mean, [3, 3], rtol=1e-15)
    np.testing.assert_allclose(measured.L_t.standard_error, [1, 0], atol=1e-15)


def test_chunks_equal_the_whole() -> None:
    terms = _terms(30)
    whole = _measured(terms)
    joined = BitsPerDim.joined([_measured(_chunk(terms, slice(a, b))) for a, b in [(0, 7), (7, 8), (8, 30)]])
    np.testing.assert_array_equal(joined.total, whole.total)
    np.testing.assert_array_equal(joined.L_t_bins, whole.L_t_bins)
    np.testing.assert_allclose(joined.L_t.standard_error, whole.L_t.standard_error, rtol=1e-13)
    assert joined.estimates().L_0 == whole.estimates().L_0


def test_a_process_of_one_time_has_no_L_t() -> None:
    measured = _measured(_terms(3, times=1))
    assert measured.t.shape == (0,)
    np.testing.assert_array_equal(measured.L_t_sum, np.zeros(3))
    assert measured.estimates().L_t_sum == Estimate(0.0, 0.0)


def test_chunks_of_different_times_are_refused() -> None:
    with pytest.raises(ValueError, match="same times"):
        BitsPerDim.joined([_measured(_terms(2, times=3)), _measured(_terms(2, times=4))])
    one = _terms(2, times=3)
    other = BoundTerms(one.L_T, one.L_t, one.L_0, torch.tensor([5, 6, 7]))
    with pytest.raises(ValueError, match="same times"):
        BitsPerDim.joined([_measured(one), _measured(other)])


def test_another_first_time_is_another_process() -> None:
    """The columns of L_t agree, but L_0 was taken at t = 1 and at t = 2."""
    one = _terms(2, times=3)
    other = BoundTerms(one.L_T, one.L_t[:, 1:], one.L_0, torch.tensor([2, 3]))
    same_columns = BoundTerms(one.L_T, one.L_t[:, 1:], one.L_0, torch.tensor([1, 3]))
    assert _measured(other).t.tolist() == _measured(same_columns).t.tolist()
    with pytest.raises(ValueError, match="same times"):
        BitsPerDim.joined([_measured(other), _measured(same_columns)])


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        BitsPerDim.joined([])
