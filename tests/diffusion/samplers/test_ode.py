"""Samplers of the probability flow against each other and against the flow itself, and the way back."""

from math import log2

import pytest
import torch

from diffusion.process import NoiseSchedule
from diffusion.samplers import DDIM, Counted, DPMSolver, Euler, Heun, ProbabilityFlow, invert, karras, sample, trailing
from tests.diffusion.samplers.analytic import Mixture, columns

S = NoiseSchedule.linear()
X_T = columns(-2.0, -0.7, 0.1, 0.4, 1.3)


@pytest.mark.parametrize("other", [DPMSolver(1), Euler()], ids=str)
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("times", [trailing(1000, 7), karras(S, 7)])
def test_of_order_one_all_are_ddim_without_noise(other, clip, times):
    model = Mixture(S, means=(-1.6, 1.5)).eps  # so far out that clipping matters
    one, two = (sample(model, S, X_T, sampler, times=times, clip_x0=clip) for sampler in (DDIM(0.0), other))
    torch.testing.assert_close(two, one, rtol=1e-9, atol=1e-9)


def test_the_first_and_last_steps_of_higher_orders_are_of_order_one():
    data = Mixture(S)
    for times in ([1000], [1000, 400]):
        one, two, three = (sample(data.eps, S, X_T, DPMSolver(p), times=times, clip_x0=False) for p in (1, 2, 3))
        assert torch.equal(one, two)
        assert torch.equal(one, three)
    two, three = (sample(data.eps, S, X_T, DPMSolver(p), times=[900, 400, 90], clip_x0=False) for p in (2, 3))
    assert torch.equal(two, three)  # the middle one of three steps can have order 2
    euler, heun = (sample(data.eps, S, X_T, p, times=[400], clip_x0=False) for p in (Euler(), Heun()))
    assert torch.equal(euler, heun)


@pytest.mark.parametrize("times", [[1000, 700, 300, 50, 1], [990.5, 640.25, 1.0]])
def test_the_solved_flow_is_that_of_gaussian_data(times):
    data, reached = Mixture.gaussian(S), {}
    model = Counted(data.eps)
    x_0 = sample(
        model, S, X_T, ProbabilityFlow(1e-9, 1e-9), times=times, clip_x0=False,
        on_step=lambda k, t, x, x_0_hat: reached.update({t: x}),
    )  # fmt: skip
    begin = S.interpolated(times[:1]).log_snr[1]
    for t in times[1:]:
        exact = data.flow(X_T, begin, S.interpolated([t]).log_snr[1])
        torch.testing.assert_close(reached[t], exact, rtol=0, atol=1e-6)
    torch.testing.assert_close(x_0, data.x_0_at(reached[1], S.log_snr[1]), rtol=1e-12, atol=0)  # Euler to sigma = 0
    assert model.calls > 50
    few = Counted(data.eps)
    sample(few, S, X_T, ProbabilityFlow(1e-3, 1e-3), times=times, clip_x0=False)
    assert len(times) < few.calls < model.calls / 2


def test_the_flow_in_float32_stays_near():
    data = Mixture.gaussian(S)
    exact, near = (
        sample(data.eps, S, x, ProbabilityFlow(), times=[1000, 1], clip_x0=False) for x in (X_T, X_T.float())
    )
    assert near.dtype == torch.float32
    torch.testing.assert_close(near.double(), exact, rtol=0, atol=1e-4)


def test_ddim_leads_to_the_noise_and_back_up_to_an_error_of_order_one():
    data, x_0 = Mixture(S), columns(-0.8, -0.5, 0.3, 0.6)

    def error(steps):
        times = trailing(1000, steps)
        x_T = invert(data.eps, S, x_0, times=times)
        return (sample(data.eps, S, x_T, DDIM(), times=times) - x_0).abs().max().item()

    assert error(1000) < 0.01
    assert log2(error(250) / error(500)) == pytest.approx(1, abs=0.3)


def test_inversion_follows_the_flow_of_gaussian_data():
    s = NoiseSchedule.log_snr_linear(1000, log_snr_max=9.0, log_snr_min=-9.0)
    data, x_0 = Mixture.gaussian(s), columns(-0.8, 0.3, 0.9)
    exact = data.flow(x_0, s.log_snr[1], s.log_snr[-1])
    model = Counted(data.v)
    torch.testing.assert_close(invert(model, s, x_0, clip_x0=False, target="v"), exact, rtol=0, atol=0.03)
    assert model.calls == 1000
