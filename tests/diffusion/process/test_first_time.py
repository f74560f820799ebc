"""The bound for every first time is that of each chain measured alone; and the entropy for the best network."""

from itertools import product
from math import e, log, pi

import pytest
import torch

from diffusion.process import (
    DiscretizedGaussian,
    GaussianDensity,
    NoiseSchedule,
    NormalizedLevels,
    bound,
    reverse_variance,
    to_unit,
)
from diffusion.process.first_time import bound_by_first_time, first_variance
from tests.diffusion.conftest import best_model, sign_pairs

T, SHAPE = 7, (3, 1, 2, 2)
SCHEDULES = {
    "linear": NoiseSchedule.linear(T),
    "log_snr": NoiseSchedule.log_snr_linear(T),
    "respaced": NoiseSchedule.cosine(50).respaced([50, 40, 31, 20, 12, 5, 2]),
}
DECODERS = {"bins": DiscretizedGaussian(5), "levels": NormalizedLevels(5), "density": GaussianDensity()}


def images():
    return to_unit(torch.randint(0, 5, SHAPE, generator=torch.Generator().manual_seed(0)), 5).double()


def noise(t, shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(t), dtype=torch.float64)


def model(x_t, t):
    """Far from perfect, and another function at each time."""
    return torch.sin(3 * x_t + t.view(-1, 1, 1, 1)) + 0.5 * x_t


def model_with_variance(x_t, t):
    return torch.cat([model(x_t, t), torch.cos(5 * x_t - t.view(-1, 1, 1, 1))], dim=1)


def check_each_chain(s, network, **options):
    """All numbers of each first time against the chain that begins there, measured alone."""
    x_0 = images()
    found = bound_by_first_time(network, s, x_0, noise=noise, chunk=5, **options)
    assert found.times.tolist() == s.time[1:].tolist()
    assert (found.L_T.shape, found.L_t.shape, found.L_0.shape) == ((3,), (3, s.T - 1), (3, s.T))
    for f in range(1, s.T + 1):
        alone = bound(network, s, x_0, noise=noise, times=range(s.T, f - 1, -1), **options)
        assert alone.times[0] == found.times[f - 1]
        for name in ("total", "L_0", "L_t_sum"):
            torch.testing.assert_close(getattr(found, name)[:, f - 1], getattr(alone, name), rtol=1e-9, atol=0)
        torch.testing.assert_close(found.L_t[:, f - 1 :], alone.L_t, rtol=1e-9, atol=0)
        torch.testing.assert_close(found.L_T, alone.L_T, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("schedule", "decoder", "variance"), list(product(SCHEDULES, DECODERS, ["small", "large", "learned"]))
)
def test_every_chain_measured_alone_has_the_same_bound(schedule, decoder, variance):
    network = model_with_variance if variance == "learned" else model
    check_each_chain(SCHEDULES[schedule], network, decoder=DECODERS[decoder], variance=variance)


@pytest.mark.parametrize("variance", ["small", "large", "learned"])
@pytest.mark.parametrize("T", [1, 2])
def test_the_shortest_chains(T, variance):
    network = model_with_variance if variance == "learned" else model
    check_each_chain(NoiseSchedule.linear(T), network, decoder=GaussianDensity(), variance=variance)


def test_clipping_and_other_targets_are_passed_on():
    check_each_chain(SCHEDULES["log_snr"], model, decoder=DiscretizedGaussian(5), clip_x0=False, target="v")


def test_a_network_is_told_the_labels():
    def labelled(x_t, t, y):
        return model(x_t, t + 10 * y)

    check_each_chain(SCHEDULES["linear"], labelled, decoder=GaussianDensity(), y=torch.tensor([4, 0, 2]))


def test_the_best_networks_bound_is_the_entropy_from_every_first_time(any_schedule):
    """For x_0 ~ N(0, 1) and sigma_t^2 = beta_t there is no gap, wherever the chain begins."""
    x_0, eps = sign_pairs()
    found = bound_by_first_time(
        best_model(any_schedule), any_schedule, x_0, noise=lambda t, _: eps, decoder=GaussianDensity(),
        variance="large", clip_x0=False,
    )  # fmt: skip
    entropy = 0.5 * log(2 * pi * e) / log(2)
    expected = torch.full((50,), entropy, dtype=torch.float64)
    torch.testing.assert_close(found.total.mean(dim=0), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", ["small", "large"])
def test_the_first_variance_is_that_of_each_chain(any_schedule, kind):
    s = any_schedule
    of_chains = [reverse_variance(s.respaced(range(s.T, t - 1, -1)), kind)[1] for t in range(1, s.T + 1)]
    assert first_variance(s, kind).tolist() == [0.0, *map(float, of_chains)]


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 1000])
def test_chunks_change_nothing(chunk):
    asked, rows = [], []

    def counted(t, shape):
        asked.append((t, tuple(shape)))
        return noise(t, shape)

    def watched(x_t, t):
        rows.append(len(x_t))
        return model(x_t, t)

    options = {"decoder": DiscretizedGaussian(5)}
    whole = bound_by_first_time(model, SCHEDULES["linear"], images(), noise=noise, chunk=3, **options)
    parts = bound_by_first_time(watched, SCHEDULES["linear"], images(), noise=counted, chunk=chunk, **options)
    assert asked == [(t, SHAPE) for t in range(1, T + 1)]  # once per time, with the whole shape
    assert sum(rows) == 3 * T
    assert max(rows) <= chunk
    torch.testing.assert_close(parts.total, whole.total, rtol=1e-13, atol=0)


def test_bad_models_and_images_are_refused():
    s, x_0 = SCHEDULES["linear"], images()
    with pytest.raises(ValueError, match="at least one image"):
        bound_by_first_time(model, s, x_0[:0], noise=noise, decoder=GaussianDensity())
    with pytest.raises(ValueError, match="lie on the 17 levels"):
        bound_by_first_time(model, s, x_0 * 0.3, noise=noise, decoder=NormalizedLevels(17))
    with pytest.raises(ValueError, match="it has a learned variance: ask for that"):
        bound_by_first_time(model_with_variance, s, x_0, noise=noise, decoder=GaussianDensity())
    with pytest.raises(ValueError, match="there is no table of it"):
        first_variance(s, "learned")

    def diverges(x_t, t):
        return torch.where(t.view(-1, 1, 1, 1) == 6, torch.nan, x_t)

    with pytest.raises(ValueError, match=r"not finite for image 0 at t = 6"):
        bound_by_first_time(diverges, s, x_0, noise=noise, decoder=GaussianDensity())
