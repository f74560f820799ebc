"""The law of what the stochastic samplers draw: 20,000 pixels against the mixture that the network knows."""

import pytest
import torch
from scipy.stats import kstest

from diffusion.process import NoiseSchedule
from diffusion.samplers import DDIM, Ancestral, EulerMaruyama, PredictorCorrector, sample, trailing
from tests.diffusion.samplers.analytic import Mixture

S = NoiseSchedule.log_snr_linear(1000, log_snr_max=9.0, log_snr_min=-9.0)
DATA = Mixture(S)
STEPS = 250
"""So many that the errors of order 1 cannot be seen in 20,000 draws; in 100 steps they can."""
SHAPE = (20, 1, 25, 40)
"""The Langevin steps look at the norm of an image, which is that of many pixels."""


def p_value(sampler, deviation_of_noise):
    """Of the test of Kolmogorov and Smirnov."""
    rng = torch.Generator().manual_seed(1)

    def noise(k, shape):
        return deviation_of_noise * torch.randn(shape, generator=rng, dtype=torch.float64)

    x_T = torch.randn(SHAPE, generator=rng, dtype=torch.float64)
    x_0 = sample(DATA.eps, S, x_T, sampler, times=trailing(S.T, STEPS), noise=noise, clip_x0=False)
    return kstest(x_0.flatten().numpy(), lambda x: DATA.cdf(torch.from_numpy(x)).numpy()).pvalue


SAMPLERS = [
    Ancestral("small"),
    Ancestral("large"),
    DDIM(1.0),
    EulerMaruyama(),
    PredictorCorrector(Ancestral("small")),
    PredictorCorrector(DDIM(0.0), corrections=2),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_the_draws_have_the_law_of_the_data(sampler):
    assert p_value(sampler, 1.0) > 0.001


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_with_a_little_less_noise_they_have_not(sampler):
    assert p_value(sampler, 0.9) < 0.001
