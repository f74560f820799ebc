"""What the loop gives its samplers, and what it asks of the network."""

import pytest
import torch

from diffusion.models import UNet
from diffusion.process import NoiseSchedule
from diffusion.samplers import (
    DDIM,
    SAMPLERS,
    Counted,
    DPMSolver,
    PredictorCorrector,
    ProbabilityFlow,
    Sampler,
    Step,
    UniPC,
    karras,
    sample,
)
from tests.diffusion.samplers.analytic import Mixture, columns

S = NoiseSchedule.linear(50)
DATA = Mixture(S)


def noise(k, shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(k), dtype=torch.float64)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_each_sampler_makes_as_many_calls_as_it_says(name, steps):
    sampler, model = SAMPLERS[name](), Counted(DATA.eps)
    sample(model, S, columns(0.5, -0.5), sampler, times=karras(S, steps), noise=noise)
    if isinstance(sampler, ProbabilityFlow):
        with pytest.raises(ValueError, match="`Counted`"):
            sampler.calls(steps)
    else:
        assert model.calls == sampler.calls(steps)


@pytest.mark.parametrize(
    "sampler",
    [*(make() for make in SAMPLERS.values()), DDIM(0.5), *(PredictorCorrector(DDIM(), corrections=n) for n in (0, 1))],
    ids=str,
)
def test_the_stochastic_ones_are_those_that_ask_for_noise(sampler):
    asked = []

    def noted(k, shape):
        asked.append(k)
        return noise(k, shape)

    sample(DATA.eps, S, columns(0.5, -0.5), sampler, times=karras(S, 3), noise=noted)
    assert bool(asked) == sampler.stochastic


@pytest.mark.parametrize(
    ("sampler", "memory"),
    [(DDIM(), 0), (DPMSolver(1), 0), (DPMSolver(3), 2), (UniPC(2), 2), (PredictorCorrector(DPMSolver(2)), 0)],
    ids=str,
)
def test_the_loop_remembers_as_much_as_is_asked_for(sampler, memory):
    assert sampler.memory == memory


def test_evaluations_come_newest_first_and_corrected():
    seen = []

    class Watching(Sampler):
        memory = 2

        def step(self, denoise, x_t, i, draw, past):
            seen.append([(e.i, e.x.item(), e.x_0_hat.item()) for e in past])
            return Step(x_t + 1, x_t * 0 + i, x_t + 0.5 if i == 3 else None)

    sample(DATA.eps, S, columns(10.0), Watching(), times=[50, 40, 30, 20])
    assert seen == [[], [(4, 10, 4)], [(3, 11.5, 3), (4, 10, 4)], [(2, 12, 2), (3, 11.5, 3)]]


def test_a_predictor_with_memory_steps_at_order_one():
    x_T, times = columns(-1.0, 0.4), [50, 30, 10]
    options = {"times": times, "noise": noise, "clip_x0": False}
    one, two = (sample(DATA.eps, S, x_T, PredictorCorrector(p), **options) for p in (DPMSolver(1), DPMSolver(3)))
    assert torch.equal(one, two)


def test_each_draw_is_new():
    asked = []

    def counting(k, shape):
        asked.append(k)
        return torch.ones(shape, dtype=torch.float64)

    sample(DATA.eps, S, columns(0.3), PredictorCorrector(corrections=2), times=[50, 30, 10], noise=counting)
    assert asked == [0, 1, 2, 3, 4, 5]  # a step and two corrections, twice; none on the way to the data


def test_a_langevin_step_is_that_of_the_paper():
    x_T, (z_1, z_2) = columns(-1.0, 0.4).view(1, 1, 1, 2), torch.tensor([[[[3.0, 4.0]]], [[[0.6, -0.8]]]]).double()
    reached = []

    def fixed(k, shape):
        return (z_1, z_2)[k]

    for corrections in (0, 1):
        sampler = PredictorCorrector(corrections=corrections, snr=0.2)
        sample(
            DATA.eps, S, x_T, sampler, times=[50, 30], noise=fixed, clip_x0=False,
            on_step=lambda k, t, x, x_0_hat: reached.append(x),
        )  # fmt: skip
    before, after = reached[0], reached[2]
    score = -DATA.eps(before, torch.tensor([30])) / S.one_minus_alpha_bar[30].sqrt()
    e = 2 * S.alpha_bar[30] * (0.2 * 1.0 / score.norm()) ** 2  # ||z_2|| = 1; alpha of the pair (30, 0) is alpha_bar_30
    torch.testing.assert_close(after, before + e * score + (2 * e).sqrt() * z_2, rtol=1e-8, atol=0)


def test_times_between_reach_the_network_and_on_step_as_floats():
    seen, reached = [], []

    def model(x, t):
        seen.append((t.dtype, t.tolist()))
        return x

    sample(
        model, S, torch.zeros(2, 1, 1, 1), DDIM(), times=[49.5, 9, 2.25],
        on_step=lambda k, t, x, x_0_hat: reached.append(t),
    )  # fmt: skip
    assert seen == [(torch.float64, [t, t]) for t in (49.5, 9.0, 2.25)]
    assert reached == [9.0, 2.25, 0.0]
    with pytest.raises(ValueError, match=r"not finite for image 0 .* at t = 9\.5"):
        sample(lambda x, t: x * torch.nan, S, torch.zeros(2, 1, 1, 1), DDIM(), times=[9.5, 2])


def test_a_network_takes_times_between():
    torch.manual_seed(0)
    net = UNet(8, 1, 8, (1,), blocks=1).eval()
    x = sample(net, S, torch.zeros(1, 1, 8, 8), DPMSolver(), times=karras(S, 4))
    assert x.shape == (1, 1, 8, 8)


def test_karras_times_are_equally_spaced_in_the_root_of_sigma(any_schedule):
    s = any_schedule
    times = karras(s, 5, rho=3.0)
    assert (times[0], times[-1]) == pytest.approx((50, 1), rel=1e-12)
    chain = s.interpolated(times)
    root = (chain.one_minus_alpha_bar / chain.alpha_bar).sqrt()[1:] ** (1 / 3)
    torch.testing.assert_close(root.diff(), root.diff().mean().expand(4), rtol=1e-9, atol=0)
    assert karras(s, 1) == pytest.approx([50])
    assert len(karras(s, 50)) == 50


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DPMSolver(4), "order must be one of 1, 2, 3, got 4"),
        (lambda: UniPC(0), "order must be one of 1, 2, 3, got 0"),
        (lambda: UniPC(2, "bh3"), "variant must be one of bh1, bh2, got 'bh3'"),
        (lambda: PredictorCorrector(snr=0.0), "snr must be positive"),
        (lambda: PredictorCorrector(corrections=-1), "corrections 0 or more"),
        (lambda: ProbabilityFlow(rtol=0.0), "must be positive"),
        (lambda: karras(S, 51), r"1\.\.50, got 51"),
        (lambda: sample(DATA.eps, S, columns(0.0), DDIM(), times=[3.5, 3.5]), "strictly decreasing"),
        (lambda: sample(DATA.eps, S, columns(0.0), DDIM(), times=[3, 4]), "strictly decreasing"),
        (lambda: sample(DATA.eps, S, columns(0.0), DDIM(), times=[3.5, 0.5]), r"1\.\.50"),
        (lambda: sample(DATA.eps, S, columns(0.0), DDIM(), target="mu"), "mu"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
