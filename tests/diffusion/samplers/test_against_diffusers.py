"""The same images as another library's schedulers make, from the same noise, at the same times and noise levels.

Its times are t - 1. Its tables are float32, in which 1 - alpha_bar keeps three digits at small t; so they are replaced
by ours, to which they are equal up to that. What it does with them stays its own, and so does the float32 in which some
schedulers keep x.
"""

from functools import partial
from itertools import pairwise

import diffusers
import pytest
import torch

from diffusion.process import NoiseSchedule
from diffusion.samplers import DDIM, Ancestral, DPMSolver, Euler, Heun, UniPC, karras, linspaced, sample, trailing
from diffusion.samplers.loop import chain_of
from tests.diffusion.samplers.analytic import Mixture, columns

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # its use of numpy

S = NoiseSchedule.linear()
DATA = Mixture(S)
X_T = columns(-2.0, -0.7, 0.1, 0.4, 1.3)


class DPMSolverWithOurEnds(diffusers.DPMSolverMultistepScheduler):
    """Where it differs from ours by more than rounding."""

    def step(self, *args, **options):
        """It lowers the order of the last but one step to 2 only for fewer than 15 steps; ours does always."""
        if self.step_index == len(self.timesteps) - 2:
            self.lower_order_nums = min(self.lower_order_nums, 1)
        return super().step(*args, **options)

    def multistep_dpm_solver_third_order_update(self, outputs, *, sample, noise=None):
        """Its D2 is the second divided difference times h^2, so half of the h^2 m'' that the Taylor series asks for
        (its singlestep code has the factor 2). With the half, test_order measures order 2 instead of 3."""
        alpha, lam = zip(
            *(
                (a, a.log() - b.log())
                for a, b in map(self._sigma_to_alpha_sigma_t, self.sigmas[self.step_index - 2 : self.step_index + 2])
            ),
            strict=True,
        )
        h_1, h_0, h = (later - before for before, later in pairwise(lam))
        divided = (outputs[-1] - outputs[-2]) / h_0 - (outputs[-2] - outputs[-3]) / h_1
        other_half = h**2 * divided / (h_0 + h_1)
        theirs = super().multistep_dpm_solver_third_order_update(outputs, sample=sample, noise=noise)
        return theirs - alpha[-1] * ((torch.exp(-h) - 1 + h) / h**2 - 0.5) * other_half


def noise(k, shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(k), dtype=torch.float64)


def ours(sampler, times):
    return sample(DATA.eps, S, X_T, sampler, times=times, noise=noise, clip_x0=False)


def on_our_table(scheduler, **how):
    scheduler.alphas_cumprod = S.alpha_bar[1:].clone()
    scheduler.set_timesteps(**how)
    return scheduler


def in_sigma(scheduler, times, **how):
    """Through a scheduler that has a table of sigmas; Euler and Heun are given x-bar and scale it for the network."""
    scheduler = on_our_table(scheduler, **how)
    chain = chain_of(S, times)
    sigma = (chain.one_minus_alpha_bar / chain.alpha_bar).sqrt().flip(0)
    if isinstance(scheduler, diffusers.HeunDiscreteScheduler):  # it has each sigma but the ends twice
        sigma = torch.cat([sigma[:1], sigma[1:-1].repeat_interleave(2), sigma[-1:]])
    torch.testing.assert_close(scheduler.sigmas.double(), sigma, rtol=1e-5, atol=0)
    scheduler.sigmas = sigma.clamp(min=1e-20)  # at 0 its bh1 multiplies B(h) = -h, infinite, by 0
    scales = isinstance(scheduler, diffusers.HeunDiscreteScheduler | diffusers.EulerDiscreteScheduler)
    x = X_T / chain.alpha_bar[-1].sqrt() if scales else X_T
    for k, t in enumerate(scheduler.timesteps):
        seen = scheduler.scale_model_input(x, t).double()
        x = scheduler.step(DATA.eps_at(seen, -2 * sigma[k].log()), t, x).prev_sample
    return x.double()


DPM = partial(DPMSolverWithOurEnds, algorithm_type="dpmsolver++", final_sigmas_type="zero")
UNIPC = partial(diffusers.UniPCMultistepScheduler, timestep_spacing="trailing")  # it takes no list of times
IN_SIGMA = {
    "dpm 1": (DPMSolver(1), partial(DPM, solver_order=1)),
    "dpm 2": (DPMSolver(2), partial(DPM, solver_order=2)),
    "dpm 3": (DPMSolver(3), partial(DPM, solver_order=3)),
    "unipc 1": (UniPC(1), partial(UNIPC, solver_order=1)),
    "unipc 2": (UniPC(2), partial(UNIPC, solver_order=2)),
    "unipc 3": (UniPC(3), partial(UNIPC, solver_order=3)),
    "unipc 2, bh1": (UniPC(2, "bh1"), partial(UNIPC, solver_order=2, solver_type="bh1")),
    "euler": (Euler(), diffusers.EulerDiscreteScheduler),
    "heun": (Heun(), partial(diffusers.HeunDiscreteScheduler, beta_start=1e-4, beta_end=0.02)),
}


@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize(("sampler", "scheduler"), IN_SIGMA.values(), ids=IN_SIGMA)
def test_at_trailing_times(sampler, scheduler, steps):
    times = trailing(1000, steps)
    how = {"num_inference_steps": steps} if isinstance(sampler, UniPC) else {"timesteps": [t - 1 for t in times]}
    torch.testing.assert_close(ours(sampler, times), in_sigma(scheduler(), times, **how), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize(("sampler", "scheduler"), IN_SIGMA.values(), ids=IN_SIGMA)
def test_at_the_times_of_karras(sampler, scheduler, steps):
    times = karras(S, steps)
    made = scheduler(use_karras_sigmas=True)
    torch.testing.assert_close(
        ours(sampler, times), in_sigma(made, times, num_inference_steps=steps), rtol=1e-4, atol=1e-6
    )
    if isinstance(sampler, Euler):  # the others round the times that they tell the network, and keep the sigmas
        torch.testing.assert_close(made.timesteps.double() + 1, torch.tensor(times).double(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim(eta, steps):
    """Its own times are trailing: it always steps to t - T // steps, which `linspace` does not have."""
    times = trailing(1000, steps)
    scheduler = diffusers.DDIMScheduler(timestep_spacing="trailing", clip_sample=False)
    scheduler, x = on_our_table(scheduler, num_inference_steps=steps), X_T
    assert [int(t) + 1 for t in scheduler.timesteps] == times
    for k, t in enumerate(scheduler.timesteps):
        z = noise(k, x.shape)
        x = scheduler.step(DATA.eps_at(x, S.log_snr[t + 1]), t, x, eta=eta, variance_noise=z).prev_sample
    torch.testing.assert_close(ours(DDIM(eta), times), x, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm(variance, steps, monkeypatch):
    """The times end at 1: at the last of others it adds noise on the way to the data."""
    times = linspaced(1000, steps)
    drawn = iter(range(steps))
    monkeypatch.setattr(
        "diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda shape, **options: noise(next(drawn), shape)
    )
    scheduler = diffusers.DDPMScheduler(variance_type=f"fixed_{variance}", clip_sample=False)
    scheduler, x = on_our_table(scheduler, timesteps=[t - 1 for t in times]), X_T
    for t in scheduler.timesteps:
        x = scheduler.step(DATA.eps_at(x, S.log_snr[t + 1]), t, x).prev_sample
    torch.testing.assert_close(ours(Ancestral(variance), times), x, rtol=1e-4, atol=1e-6)
