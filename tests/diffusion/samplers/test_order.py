"""The order of each sampler, measured on Gaussian data, where the probability flow is known."""

from math import log2

import pytest

from diffusion.process import NoiseSchedule
from diffusion.samplers import DDIM, DPMSolver, Euler, Heun, UniPC, sample
from tests.diffusion.samplers.analytic import Mixture, columns

S = NoiseSchedule.log_snr_linear(2049, log_snr_max=10, log_snr_min=-10)
DATA = Mixture.gaussian(S)
REACHED = 513
"""Where the errors are compared: log SNR 5, so that the last steps do not count. To zero noise the step in log SNR is
infinite, and the samplers lower their order on the way there."""


def error(sampler, steps):
    """The largest error of three images at REACHED, after steps of equal length in log SNR."""
    x_T = columns(-1.5, 0.2, 1.0)
    reached = {}
    sample(
        DATA.eps, S, x_T, sampler, times=range(2049, 0, -2048 // steps), clip_x0=False,
        on_step=lambda k, t, x, x_0_hat: reached.update({t: x}),
    )  # fmt: skip
    return (reached[REACHED] - DATA.flow(x_T, S.log_snr[-1], S.log_snr[REACHED])).abs().max().item()


@pytest.mark.parametrize(
    ("sampler", "order"),
    [
        (DDIM(), 1),
        (Euler(), 1),
        (Heun(), 2),
        (DPMSolver(1), 1),
        (DPMSolver(2), 2),
        (DPMSolver(3), 3),
        *[(UniPC(p, variant), p + 1) for variant in ("bh1", "bh2") for p in (1, 2, 3)],
    ],
    ids=str,
)
def test_twice_the_steps_leave_one_over_two_to_the_order(sampler, order):
    slope = log2(error(sampler, 64) / error(sampler, 128))
    assert slope == pytest.approx(order, abs=0.45)
