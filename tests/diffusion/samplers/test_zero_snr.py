"""Sampling from zero SNR, where x_T is noise alone."""

import pytest
import torch

from diffusion.process import NoiseSchedule
from diffusion.samplers import (
    DDIM,
    Ancestral,
    DPMSolver,
    Euler,
    EulerMaruyama,
    Heun,
    PredictorCorrector,
    ProbabilityFlow,
    UniPC,
    karras,
    sample,
    trailing,
)
from tests.diffusion.samplers.analytic import Mixture, columns

S = NoiseSchedule.cosine(1000).rescaled_to_zero_snr()
DATA = Mixture.gaussian(S)  # N(0.3, 0.25): the flow from T to the data is x_0 = 0.3 + 0.5 x_T
X_T = columns(-2.0, -0.7, 0.1, 0.4, 1.3)
FLOWS = [
    (DDIM(), 0.02),
    (Euler(), 0.02),
    (Heun(), 2e-3),
    *[(DPMSolver(p), 0.02 if p == 1 else 2e-3) for p in (1, 2, 3)],
    *[(UniPC(p, variant), 2e-3) for p in (1, 2, 3) for variant in ("bh1", "bh2")],
    (ProbabilityFlow(), 2e-3),
]


@pytest.mark.parametrize(("sampler", "error"), FLOWS, ids=str)
@pytest.mark.parametrize("target", ["v", "x_0"])
def test_the_flow_begins_at_noise_alone(sampler, error, target):
    x_0 = sample(getattr(DATA, target), S, X_T, sampler, times=trailing(1000, 200), clip_x0=False, target=target)
    torch.testing.assert_close(x_0, 0.3 + 0.5 * X_T, rtol=0, atol=error)


@pytest.mark.parametrize("sampler", [Ancestral("small"), Ancestral("large"), DDIM(1.0), PredictorCorrector()], ids=str)
@pytest.mark.parametrize("target", ["v", "x_0"])
def test_the_law_begins_at_noise_alone(sampler, target, rng):
    def noise(k, shape):
        return torch.randn(shape, generator=rng, dtype=torch.float64)

    x_T, times = noise(0, (4, 1, 50, 50)), trailing(1000, 200)
    x_0 = sample(getattr(DATA, target), S, x_T, sampler, times=times, noise=noise, clip_x0=False, target=target)
    assert x_0.mean().item() == pytest.approx(0.3, abs=0.02)
    assert x_0.std().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("target", ["eps", "score"])
def test_what_says_nothing_about_x_0_is_refused(target):
    with pytest.raises(ValueError, match=f"predicted {target} says nothing about x_0"):
        sample(DATA.eps, S, X_T, DDIM(), target=target)
    x_0 = sample(DATA.eps, S, X_T, DDIM(), times=[999, 500, 1], clip_x0=False)  # these end above zero SNR
    assert bool(x_0.isfinite().all())


def test_the_sde_and_karras_times_do_not_reach_it(rng):
    def noise(k, shape):
        return torch.randn(shape, generator=rng, dtype=torch.float64)

    with pytest.raises(ValueError, match="the SDE does not reach zero SNR"):
        sample(DATA.v, S, X_T, EulerMaruyama(), noise=noise, target="v")
    sample(DATA.v, S, X_T, EulerMaruyama(), times=trailing(1000, 500)[1:], noise=noise, target="v")
    with pytest.raises(ValueError, match="infinite at zero SNR"):
        karras(S, 10)
