"""The estimated bound against the exact one and against the Gaussian oracle; all in float64 and with fixed seeds."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import log, log2, pi, sqrt

import pytest
import torch
from torch import Tensor

from diffusion.process import DiscretizedGaussian, GaussianDensity, NoiseSchedule, bound, to_unit
from diffusion.process.bins import TimeBins, log_snr_bins
from diffusion.process.estimate import EstimatedTerms, estimate_bound
from tests.diffusion.conftest import best_model

ALMOST_ONE = 1 - 2**-53


@pytest.fixture
def one_thread() -> Iterator[None]:
    """On busy cores two threads that wait for each other in every operation take fifty times as long as one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def drawn(rng: torch.Generator) -> dict[str, Callable[..., Tensor]]:
    """Fresh noise and uniforms at every call."""
    return {
        "noise": lambda k, t, shape: torch.randn(shape, generator=rng, dtype=torch.float64),
        "uniforms": lambda k, n: torch.rand(n, generator=rng, dtype=torch.float64),
    }


def closed_form(s: NoiseSchedule, v: float) -> tuple[float, Tensor, float]:
    """E[L_T], E[L_t] for 2..T and E[L_0] in bits/dim of the best network, x_0 ~ N(0, v), small variance.

    x_0 given x_t has the variance v (1 - a-bar) / (a-bar v + 1 - a-bar), and L_{t-1} is half the SNR's difference times
    that (Kingma et al. 2021, eq. 14).
    """
    a = s.alpha_bar[1:]
    error = v * (1 - a) / (a * v + 1 - a)
    L_t = (s.snr[1:-1] - s.snr[2:]) / 2 * error[1:]
    L_0 = 0.5 * (log(2 * pi) + s.beta_tilde[2].log() + error[0] / s.beta_tilde[2])
    L_T = 0.5 * (a[-1] * v - a[-1] - torch.log1p(-a[-1]))
    return float(L_T) / log(2), L_t / log(2), float(L_0) / log(2)


def cut(terms: EstimatedTerms, repeats: int) -> list[EstimatedTerms]:
    """Repeats that were estimated side by side."""
    parts = zip(terms.L_T.chunk(repeats), terms.L_0.chunk(repeats), terms.replicates.chunk(repeats, dim=1), strict=True)
    return [EstimatedTerms(*part, terms.bins, terms.calls) for part in parts]


def check_covered(estimates: list[list[tuple[float, float]]], truth: Tensor) -> None:
    """For each column of (mean, error), one row per repeat: 95% intervals hold the truth in 93% to 97% of the repeats,
    and the mean over all repeats is within 4 of its own standard errors."""
    mean, error = torch.tensor(estimates, dtype=torch.float64).unbind(dim=-1)
    covered = ((mean - truth).abs() < 1.96 * error).double().mean(dim=0)
    assert ((covered > 0.93) & (covered < 0.97)).all(), covered
    assert ((mean.mean(dim=0) - truth).abs() < 4 * mean.std(dim=0) / sqrt(len(mean))).all()


REPEATS, IMAGES, CALLS = 2000, 200, 15
"""Enough images for a normal distribution of their mean, although few of the drawn terms make most of it."""


@pytest.mark.usefixtures("one_thread")
def test_the_standard_error_covers_the_expected_bound(rng):
    s, v = NoiseSchedule.log_snr_linear(50), 0.5
    bins = log_snr_bins(s, 4)
    x_0 = v**0.5 * torch.randn(REPEATS * IMAGES, 1, 2, 2, generator=rng, dtype=torch.float64)
    options = drawn(rng) | {"decoder": GaussianDensity(), "clip_x0": False, "chunk": 2**14}
    terms = estimate_bound(best_model(s, v), s, x_0, calls=CALLS, bins=bins, **options)
    L_T, L_t, L_0 = closed_form(s, v)
    found = [part.estimates() for part in cut(terms, REPEATS)]
    check_covered(
        [[(e.mean, e.standard_error) for e in (f.L_T, f.L_t_sum, f.L_0, f.total, *f.L_t_bins)] for f in found],
        torch.tensor([L_T, L_t.sum(), L_0, L_T + L_t.sum() + L_0, *bins.sums(L_t[None])[0]]),
    )


@pytest.mark.usefixtures("one_thread")
def test_the_sampling_error_covers_the_exact_bound_of_the_same_images(rng):
    """A noise that is a function of image and time is the same in both, so that only the drawn times are apart."""
    s = NoiseSchedule.log_snr_linear(50)
    bins = log_snr_bins(s, 3)
    model = best_model(s, 0.3)  # not the best for these images
    x_0 = to_unit(torch.randint(0, 17, (IMAGES, 1, 1, 2), generator=rng), 17).double()
    eps = torch.randn(51, IMAGES, 1, 1, 2, generator=rng, dtype=torch.float64)
    image = torch.arange(IMAGES).repeat(REPEATS)
    options = {"decoder": DiscretizedGaussian(17), "chunk": 2**14}
    exact = bound(model, s, x_0, noise=lambda t, shape: eps[t], **options)
    terms = estimate_bound(
        model, s, x_0[image], noise=lambda k, t, shape: eps[t, image], uniforms=drawn(rng)["uniforms"], calls=CALLS,
        bins=bins, **options,
    )  # fmt: skip
    torch.testing.assert_close(terms.L_T, exact.L_T[image], rtol=1e-12, atol=0)
    torch.testing.assert_close(terms.L_0, exact.L_0[image], rtol=1e-12, atol=0)
    found = [part.estimates() for part in cut(terms, REPEATS)]
    assert {(f.L_T.sampling_error, f.L_0.sampling_error) for f in found} == {(0, 0)}
    check_covered(
        [[(e.mean, e.sampling_error) for e in (f.L_t_sum, f.total, *f.L_t_bins)] for f in found],
        torch.stack([exact.L_t_sum.mean(), exact.total.mean(), *bins.sums(exact.L_t).mean(dim=0)]),
    )


@pytest.mark.parametrize(("times", "m"), [(None, 7), (range(50, 1, -4), 3)], ids=["all", "respaced"])
def test_every_index_weighs_the_same(any_schedule, times, m, rng):
    """T - 1 = m q: q copies of an image, each at another place of every stratum, visit each of 2..T once, and their
    mean is the exact bound without any error of sampling."""
    s, chain = any_schedule, any_schedule.respaced(times)
    q = (chain.T - 1) // m
    assert q * m == chain.T - 1
    x_0 = torch.full((q, 1, 1, 2), 0.5).double()
    eps = torch.randn(51, 1, 1, 2, generator=rng, dtype=torch.float64)
    options = {"decoder": GaussianDensity(), "times": times}
    exact = bound(best_model(s), s, x_0[:1], noise=lambda t, shape: eps[t][None], **options)
    terms = estimate_bound(
        best_model(s), s, x_0, noise=lambda k, t, shape: eps[t], calls=2 * m + 1, bins=log_snr_bins(chain, 5),
        uniforms=lambda k, n: ((torch.arange(n).double() + 0.5) / n).roll(k), **options,
    )  # fmt: skip
    torch.testing.assert_close(terms.total.mean(), exact.total[0], rtol=1e-12, atol=0)
    bins = terms.bins.sums(exact.L_t)[0]
    torch.testing.assert_close(terms.replicates.mean(dim=1), bins.expand(2, 5), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(terms.L_t_bins.sum(dim=1), terms.L_t_sum, rtol=0, atol=0)
    assert terms.calls == 2 * m + 1


@pytest.mark.parametrize(("U", "expected"), [(0.0, [2, 14, 26, 38]), (ALMOST_ONE, [14, 26, 38, 50])])
def test_strata_reach_from_the_second_index_to_the_last(any_schedule, U, expected):
    """2 + floor(u 49) at u = 0, 1/4, 1/2, 3/4, or just below the next of them and never beyond T; L_0 at index 1."""
    asked = []

    def noise(k, t, shape):
        asked.append((k, t.tolist(), tuple(shape)))
        return torch.zeros(shape)

    def uniforms(k, n):
        return torch.full((n,), U, dtype=torch.float64)

    estimate_bound(
        best_model(any_schedule), any_schedule, torch.zeros(2, 1, 1, 1).double(), noise=noise, uniforms=uniforms,
        decoder=GaussianDensity(), calls=9,
    )  # fmt: skip
    assert asked == [(k, [t, t], (2, 1, 1, 1)) for k, t in enumerate([1, *expected, *expected])]


@pytest.mark.parametrize("chunk", [1, 3, 4, 7, 64])
@pytest.mark.parametrize("times", [None, list(range(50, 1, -3))])
def test_chunks_change_nothing_and_calls_are_what_they_say(any_schedule, chunk, times, rng):
    s = any_schedule
    x_0 = to_unit(torch.randint(0, 17, (4, 1, 2, 2), generator=rng), 17).double()
    eps = torch.randn(9, 4, 1, 2, 2, generator=rng, dtype=torch.float64)
    U = torch.rand(9, 4, generator=rng, dtype=torch.float64)
    seen, asked = [], []

    def model(x_t, t):
        seen.append(t.tolist())
        return best_model(s)(x_t, t)

    def noise(k, t, shape):
        asked.append((k, t))
        return eps[k]

    options = {"decoder": DiscretizedGaussian(17), "times": times, "calls": 9}
    options["bins"] = log_snr_bins(s.respaced(times), 3)
    whole = estimate_bound(
        best_model(s), s, x_0, noise=lambda k, t, shape: eps[k], uniforms=lambda k, n: U[k], **options
    )
    terms = estimate_bound(model, s, x_0, noise=noise, uniforms=lambda k, n: U[k], chunk=chunk, **options)
    assert max(map(len, seen)) <= chunk
    assert [k for k, _ in asked] == list(range(9))
    rows = [t for call in seen for t in call]
    assert rows == torch.cat([t for _, t in asked]).tolist()  # 9 for each image, at the times of its noise
    assert set(rows) <= set(times or range(1, 51))
    parts = [
        estimate_bound(
            best_model(s), s, x_0[a:b], noise=lambda k, t, shape, a=a, b=b: eps[k, a:b],
            uniforms=lambda k, n, a=a, b=b: U[k, a:b], **options,
        )
        for a, b in [(0, 1), (1, 4)]
    ]  # fmt: skip
    for other in (terms, EstimatedTerms.joined(parts)):
        for name in ("L_T", "L_0", "replicates", "total"):
            torch.testing.assert_close(getattr(other, name), getattr(whole, name), rtol=1e-12, atol=1e-15)


def test_each_row_is_told_its_images_label(any_schedule, rng):
    """Without noise x_t is sqrt(a-bar_t) x_0, and here x_0 is the label."""
    seen = []

    def model(x_t, t, y):
        torch.testing.assert_close(x_t.flatten(), any_schedule.alpha_bar[t].sqrt() * y)
        seen.extend(y.tolist())
        return x_t

    y, options = torch.tensor([4, 5, 6]), drawn(rng) | {"noise": lambda k, t, shape: torch.zeros(shape)}
    x_0 = y.double().view(3, 1, 1, 1)
    estimate_bound(model, any_schedule, x_0, y=y, calls=5, chunk=2, decoder=GaussianDensity(), **options)
    assert seen == [4, 5, 6] * 5


def test_errors_by_hand():
    """Two images, two bins: sums 3 and 6, totals 4 and 11; the replicates are apart by 2 in one bin for each image."""
    terms = EstimatedTerms(
        L_T=torch.tensor([1.0, 3.0]),
        L_0=torch.tensor([0.0, 2.0]),
        replicates=torch.tensor([[[2.0, 0.0], [4.0, 1.0]], [[4.0, 0.0], [4.0, 3.0]]]),
        bins=log_snr_bins(NoiseSchedule.linear(9), 2),
        calls=5,
    )
    found = terms.estimates()
    for estimated, expected in [
        (found.L_T, (2, 1, 0)),
        (found.L_0, (1, 1, 0)),
        (found.L_t_sum, (4.5, 1.5, sqrt(2) / 2)),
        (found.total, (7.5, 3.5, sqrt(2) / 2)),
        (found.L_t_bins[0], (3.5, 0.5, 0.5)),
        (found.L_t_bins[1], (1, 1, 0.5)),
    ]:
        assert (estimated.mean, estimated.standard_error, estimated.sampling_error) == pytest.approx(expected)


def test_what_cannot_be_estimated_is_refused(any_schedule, rng):
    s, x_0 = any_schedule, torch.zeros(2, 1, 2, 2)

    def estimate(x_0=x_0, model=lambda x, t: x, **options):
        options = {"decoder": GaussianDensity(), "calls": 5} | drawn(rng) | options
        return estimate_bound(model, s, x_0, **options)

    with pytest.raises(ValueError, match="at least one image"):
        estimate(x_0[:0])
    with pytest.raises(ValueError, match=r"level"):
        estimate(x_0 + 0.01, decoder=DiscretizedGaussian(17))
    for calls in (1, 50, -3):
        with pytest.raises(ValueError, match=rf"odd number of 3 or more.*got {calls}"):
            estimate(calls=calls)
    with pytest.raises(ValueError, match="5 calls for each image are not fewer than the 5 of the exact bound: use"):
        estimate(times=[50, 40, 30, 20, 10])
    with pytest.raises(ValueError, match="not fewer than the 1 of the exact bound"):
        estimate(times=[7])  # a chain of one step has no L_t
    with pytest.raises(ValueError, match="another chain, of 50 steps, and this one has 6"):
        estimate(times=[50, 40, 30, 20, 10, 1], bins=log_snr_bins(s))
    with pytest.raises(ValueError, match=r"uniforms must be float64 \(2,\), got torch.float32 \(2,\) for call 1"):
        estimate(uniforms=lambda k, n: torch.zeros(n))
    with pytest.raises(ValueError, match=r"in \[0, 1\), got 1.0 to 1.0 for call 1"):
        estimate(uniforms=lambda k, n: torch.ones(n).double())
    with pytest.raises(ValueError, match=r"shape of x_0, \(2, 1, 2, 2\), got \(1, 1, 2, 2\) for call 0"):
        estimate(noise=lambda k, t, shape: torch.zeros(1, 1, 2, 2))
    with pytest.raises(ValueError, match=r"must return the shape of x_t, \(2, 1, 2, 2\), got \(2, 2, 2, 2\)"):
        estimate(model=lambda x, t: torch.cat([x, x], 1), chunk=2)
    with pytest.raises(ValueError, match=r"not finite for image 1 at t = 1$"):
        estimate(model=lambda x, t: x / torch.tensor([1.0, 0.0]).view(2, 1, 1, 1), chunk=2)
    with pytest.raises(ValueError, match="two or more images, got 1"):
        estimate(x_0[:1]).estimates()
    with pytest.raises(ValueError, match="at least one image"):
        EstimatedTerms.joined([])
    with pytest.raises(ValueError, match="same number of calls and the same bins"):
        EstimatedTerms.joined([estimate(), estimate(bins=log_snr_bins(s))])
    with pytest.raises(ValueError, match="same number of calls and the same bins"):
        EstimatedTerms.joined([estimate(), replace(estimate(), calls=7)])


def test_bins_are_equally_wide_in_log_snr(any_schedule):
    bins = log_snr_bins(any_schedule, 6)
    log_snr = any_schedule.log_snr[2:]
    edges = torch.linspace(log_snr[0].item(), log_snr[-1].item(), 7).double()
    assert bins.of_index[:2].tolist() == [-1, -1]
    for b, times in enumerate(bins.ranges):
        below = edges[b + 1] + (-1 if b == 5 else 1) * 1e-6  # the last bin has both its edges
        inside = [t for t in range(2, 51) if edges[b] + 1e-6 >= log_snr[t - 2] > below]
        assert times == ((inside[0], inside[-1]) if inside else None)


def test_a_time_on_an_edge_begins_the_next_bin():
    """log SNR linear in t, 32 steps from index 2 to 34: 16 bins of two times, and the last edge is in the last bin."""
    bins = log_snr_bins(NoiseSchedule.log_snr_linear(34))
    assert bins.ranges == (*((t, t + 1) for t in range(2, 32, 2)), (32, 34))
    assert bins.log_snr == pytest.approx([7 - 14 / 33 * steps for steps in range(2, 34, 2)])


def test_bins_of_short_chains():
    s = NoiseSchedule.log_snr_linear(21)
    respaced = log_snr_bins(s.respaced([21, 20, 11, 5, 1]), 4)  # 16 steps of log SNR, of which 21 is the last
    assert respaced.ranges == ((5, 5), (11, 11), None, (20, 21))
    assert respaced.sums(torch.tensor([[1.0, 2.0, 4.0, 8.0]])).tolist() == [[1, 2, 0, 12]]
    assert log_snr_bins(s.respaced([8, 3]), 2).ranges == ((8, 8), None)
    assert log_snr_bins(s.respaced([3]), 2).ranges == (None, None)
    with pytest.raises(ValueError, match="1 or more, got 0"):
        log_snr_bins(s, 0)
    with pytest.raises(ValueError, match=r"21 steps take terms of shape \(3, 20\), got \(3, 4\): .*respaced"):
        log_snr_bins(s).sums(torch.ones(3, 4))


def test_terms_that_are_not_finite_stay_in_their_bin():
    bins = TimeBins(torch.tensor([-1, -1, 0, 1]), torch.arange(4), (1.0, -1.0))
    assert bins.sums(torch.tensor([[torch.inf, log2(8)]])).tolist() == [[torch.inf, 3.0]]
