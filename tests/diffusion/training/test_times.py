"""How times are drawn: uniform in law, spread over a batch, and in proportion to the losses without any bias."""

import numpy as np
import pytest
import torch
from torch import Tensor

from diffusion.training.times import ImportanceTimes, StratifiedTimes, Times, UniformTimes

T, V, N = 40, 4, 8
"""Times, virtual shards, images per shard."""


def batch(times: Times, step: int) -> np.ndarray:
    return np.concatenate([times.of(step, shard, N) for shard in range(V)])


@pytest.fixture(params=["uniform", "stratified", "importance"])
def times(request: pytest.FixtureRequest) -> Times:
    makers = {
        "uniform": lambda: UniformTimes(T, 0),
        "stratified": lambda: StratifiedTimes(T, 0, V),
        "importance": lambda: ImportanceTimes(T, 0, V),
    }
    made: Times = makers[request.param]()
    return made


def test_times_are_uniform_over_1_to_T(times: Times) -> None:
    """Four standard deviations of a binomial count; stratified times scatter less."""
    counts = np.bincount(np.concatenate([batch(times, step) for step in range(2000)]), minlength=T + 1)
    assert counts[0] == 0
    assert len(counts) == T + 1
    expected = 2000 * V * N / T
    assert np.abs(counts[1:] - expected).max() < 4 * (expected * (1 - 1 / T)) ** 0.5


def test_times_are_a_function_of_seed_step_and_shard(times: Times) -> None:
    assert np.array_equal(times.of(3, 2, N), times.of(3, 2, N))
    assert not np.array_equal(times.of(3, 2, N), times.of(4, 2, N))
    assert not np.array_equal(times.of(3, 2, N), times.of(3, 1, N))
    assert not np.array_equal(batch(UniformTimes(T, 0), 3), batch(UniformTimes(T, 1), 3))


def test_a_stratified_batch_is_spread_evenly() -> None:
    """32 images over 40 times: any interval of 10 times holds 8 of them, one more or less at its ends."""
    times = StratifiedTimes(T, 0, V)
    for step in range(50):
        t = batch(times, step)
        for first in range(1, 31):
            assert abs(((t >= first) & (t < first + 10)).sum() - 8) <= 1


def fed(losses: Tensor, steps: int, seed: int = 0) -> ImportanceTimes:
    """Times that have seen `steps` batches of a loss that is a function of t, with noise."""
    times = ImportanceTimes(T, seed, V)
    rng = np.random.default_rng(seed)
    for step in range(steps):
        t = torch.from_numpy(batch(times, step))
        loss = losses[t] * torch.from_numpy(rng.choice([0.5, 1.5], len(t)))
        zeros = torch.zeros(T + 1, dtype=torch.float64)
        times.observe(step, zeros.index_add(0, t, loss**2), zeros.index_add(0, t, torch.ones_like(loss)))
    return times


def test_importance_follows_the_root_of_the_second_moment() -> None:
    """E[L_t^2] = 1.25 l_t^2 here, so p_t is l_t over their sum, but for a thousandth that is uniform."""
    losses = torch.linspace(0.1, 4.0, T + 1).double()
    times = fed(losses, 600)
    expected = 0.999 * losses[1:] / losses[1:].sum() + 0.001 / T
    np.testing.assert_allclose(times.probability[1:], expected, rtol=0.35)
    assert times.probability[0] == 0
    assert times.probability.sum() == pytest.approx(1, abs=1e-12)
    counts = np.bincount(np.concatenate([batch(times, step) for step in range(5000)]), minlength=T + 1)
    expected_counts = times.probability * counts.sum()
    assert (np.abs(counts - expected_counts)[1:] < 5 * expected_counts[1:] ** 0.5).all()


def test_importance_is_uniform_until_every_time_was_seen_ten_times() -> None:
    """32 of 40 times in each step: 8 visits of a time in 10 steps, 16 in 20."""
    losses = torch.linspace(0.1, 4.0, T + 1).double()
    assert (fed(losses, 10).probability[1:] == 1 / T).all()
    assert fed(losses, 20).probability[T] > 1.5 / T


def test_a_time_without_loss_is_still_drawn() -> None:
    """A thousandth of p_t is uniform: no weight 1 / (T p_t) is above a thousand."""
    losses = torch.linspace(0.1, 4.0, T + 1).double()
    losses[3] = 0
    assert fed(losses, 20).probability[3] == pytest.approx(1e-3 / T)


def test_the_weights_leave_no_bias() -> None:
    """sum_t p_t / (T p_t) l_t is the mean over uniform times, whatever p_t."""
    times = fed(torch.linspace(0.1, 4.0, T + 1).double(), 200)
    every = np.arange(1, T + 1)
    weights = times.weights(200, every)
    assert weights is not None
    losses = np.sin(every) + 2
    assert (times.probability[1:] * weights * losses).sum() == pytest.approx(losses.mean(), rel=1e-12)
    assert UniformTimes(T, 0).weights(0, every) is None
    assert StratifiedTimes(T, 0, V).weights(0, every) is None


def test_the_times_of_a_past_step_are_those_that_were_drawn_then() -> None:
    """A failed step is looked at when it has changed the distribution already, and when it is the first of many."""
    losses, every = torch.linspace(0.1, 4.0, T + 1).double(), np.arange(1, T + 1)
    times = fed(losses, 199)
    drawn, weights = batch(times, 199), times.weights(199, every)
    ones, zeros = torch.ones(T + 1), torch.zeros(T + 1)
    times.observe(199, ones, ones)
    assert not np.array_equal(times.weights(200, every), weights)
    for step in range(200, 230):  # left out
        times.observe(step, zeros, zeros)
        assert np.array_equal(batch(times, 199), drawn)
        assert np.array_equal(times.weights(199, every), weights)


def test_what_was_learned_goes_through_tensors() -> None:
    losses = torch.linspace(0.1, 4.0, T + 1).double()
    kept = fed(losses, 205)  # five steps after the last change
    other = ImportanceTimes(T, 0, V)
    other.load({name: tensor.clone() for name, tensor in kept.tensors().items()})
    for step in range(205, 220):
        assert np.array_equal(batch(kept, step), batch(other, step))
        for times in (kept, other):
            times.observe(step, torch.ones(T + 1), torch.ones(T + 1))
    assert np.array_equal(kept.probability, other.probability)
    assert np.array_equal(batch(kept, 209), batch(other, 209))
    with pytest.raises(ValueError, match="the distribution of times lacks tensor"):
        other.load({"moment": torch.zeros(T + 1)})
