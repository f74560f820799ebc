"""The one loop over t. Samplers are the small objects that take its steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from diffusion.process.parameterization import Target, check_target, to_eps, x_0_to_eps
from diffusion.process.reverse import first_non_finite, predict_x_0, split_output
from diffusion.process.schedule import NoiseSchedule

Model = Callable[[Tensor, Tensor], Tensor]
Noise = Callable[[int, torch.Size], Tensor]
OnStep = Callable[[int, float, Tensor, Tensor], None]
Guide = Callable[[Tensor, Tensor], Tensor]


class Prediction(NamedTuple):
    """What the network says of x_t: x_t = sqrt(alpha_bar_t) x_0_hat + sqrt(1 - alpha_bar_t) eps_hat."""

    x_0_hat: Tensor
    """(N, C, H, W), clipped if that was asked for."""
    eps_hat: Tensor
    """(N, C, H, W), derived again from x_0_hat when that was clipped."""
    v: Tensor | None
    """(N, C, H, W): where each pixel's variance lies between the two fixed ones, of a network that has learned it."""


@dataclass(frozen=True)
class Denoiser:
    """The network on a chain: index i of the chain in, prediction out. One call of the network per call."""

    model: Model
    s: NoiseSchedule
    clip_x0: bool
    target: Target | str = Target.EPS
    """What the network predicts."""
    full: NoiseSchedule | None = None
    """The process that the chain was taken from; None: the chain itself."""
    guide: Guide | None = None
    """(x_t, t) -> s grad log p(y | x_t), which leads to a class; None: nothing does."""

    def __post_init__(self) -> None:
        check_target(self.s, self.target)

    def index(self, i: int, x: Tensor) -> Tensor:
        """i for each image of the batch, LongTensor (N,)."""
        return torch.full((len(x),), i, device=x.device)

    def __call__(self, x_t: Tensor, i: int) -> Prediction:
        """With a guide eps_hat is eps_theta - sqrt(1 - alpha_bar_t) s grad log p(y | x_t): D&N 2021, algorithm 2."""
        return self._prediction(x_t, i, self.pull(x_t, i))

    def unguided(self, x_t: Tensor, i: int) -> Prediction:
        """What the network says by itself, for samplers that move their mean by the `pull`."""
        return self._prediction(x_t, i, None)

    def pull(self, x_t: Tensor, i: int) -> Tensor | None:
        """(N, C, H, W): s grad log p(y | x_t); None without a guide, and at zero SNR, where x_t tells nothing of y."""
        if self.guide is None or (self.s.zero_snr and i == self.s.T):
            return None
        pull = self.guide(x_t, self.s.time[self.index(i, x_t)])
        if (image := first_non_finite(pull)) is not None:
            t = self.s.time[i].item()
            raise ValueError(f"the gradient of the guide is not finite for image {image} of the batch at t = {t}")
        return pull

    def _prediction(self, x_t: Tensor, i: int, pull: Tensor | None) -> Prediction:
        index = self.index(i, x_t)
        output = self.model(x_t, self.s.time[index])
        prediction, v = split_output(output, x_t)
        if (image := first_non_finite(output)) is not None:
            t = self.s.time[i].item()
            raise ValueError(f"the model's prediction is not finite for image {image} of the batch at t = {t}")
        x_0_hat = predict_x_0(self.s, x_t, index, prediction, clip=False, target=self.target)
        if pull is not None:  # as eps_hat moves by -b pull, (x_t - b eps_hat) / a does by b^2 / a
            x_0_hat = x_0_hat + self.s.one_minus_alpha_bar[i] / self.s.alpha_bar[i].sqrt() * pull
        if self.clip_x0:
            x_0_hat = x_0_hat.clamp(-1, 1)
        if self.clip_x0 or pull is not None:
            return Prediction(x_0_hat, x_0_to_eps(self.s, x_t, index, x_0_hat), v)
        return Prediction(x_0_hat, to_eps(self.s, x_t, index, prediction, self.target), v)

    def at_log_snr(self, x: Tensor, log_snr: float) -> Prediction:
        """The prediction between the chain's times: where the full process has this log SNR."""
        full = self.s if self.full is None else self.full
        return replace(self, s=full.interpolated(full.time_at([log_snr])))(x, 1)


class Step(NamedTuple):
    """Where a step led."""

    x: Tensor
    """x at the next smaller time of the chain, (N, C, H, W)."""
    x_0_hat: Tensor
    """The prediction it was made from."""
    x_t: Tensor | None = None
    """Where it began, if the sampler has corrected that first."""


class Evaluation(NamedTuple):
    """What an earlier step saw."""

    i: int
    """Its index in the chain."""
    x: Tensor
    """x there, (N, C, H, W), corrected if the sampler does that."""
    x_0_hat: Tensor
    """What the network said."""


class Sampler(Protocol):
    """One step from index i of the chain `denoise.s` to i - 1. Samplers hold no state: the loop remembers for them."""

    @property
    def memory(self) -> int:
        """How many evaluations of earlier steps it looks at."""
        return 0

    @property
    def stochastic(self) -> bool:
        """Whether it adds noise on the way."""
        return False

    def calls(self, steps: int) -> int:
        """Calls of the network in a chain of so many steps, by which samplers are compared."""
        return steps

    def step(
        self, denoise: Denoiser, x_t: Tensor, i: int, draw: Callable[[], Tensor], past: Sequence[Evaluation]
    ) -> Step:
        """Take the step. At i = 1 no noise is added.

        Args:
            draw: gives standard normal noise of x_t's shape, new at each call.
            past: the earlier evaluations, the newest (index i + 1) first; fewer than `memory` at the first steps.
        """
        ...


@torch.no_grad()
def sample(
    model: Model,
    s: NoiseSchedule,
    x_T: Tensor,
    sampler: Sampler,
    *,
    times: Sequence[float] | None = None,
    noise: Noise | None = None,
    clip_x0: bool = True,
    target: Target | str = Target.EPS,
    guide: Guide | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Draw images: from x_T down to x_0, the last step without noise. Ho et al. 2020, algorithm 2.

    Args:
        model: (x_t, t) -> eps_hat, all (N, C, H, W), t a LongTensor (N,) of times of the full process, float64 where
            the times are not whole. In eval mode. One with a learned variance returns 2 C channels (`split_output`);
            samplers that do not ask for it leave it.
        x_T: (N, C, H, W), standard normal.
        sampler: how to step.
        times: the times to visit, decreasing; None visits T..1. If some are floats, the process is `interpolated`.
        noise: (k, shape) -> standard normal noise; k = 0, 1, .. in the order in which the sampler asks. One that draws
            once a step asks for k at the k-th step, 0 being the one that leaves x_T; one that adds none never asks.
        clip_x0: clip the predicted image to [-1, 1] at each step.
        target: what the model predicts, if not eps.
        guide: (x_t, t) -> s grad log p(y | x_t), (N, C, H, W): a `ClassifierGuide`. (`ClassifierFree` is a model.)
        on_step: called after each step with (k, the time reached, x, x_0_hat).

    Returns:
        x_0, (N, C, H, W).

    Raises:
        ValueError: times that are not decreasing within T..1, noise missing, or a prediction of the wrong shape or not
            finite, or such a gradient (the message names image and time).
    """
    full = s.to(x_T.device)
    denoise = Denoiser(model, chain_of(full, times), clip_x0, target, full, guide)
    x, draw = x_T, _drawing(noise, x_T)
    past: list[Evaluation] = []
    for k, i in enumerate(range(denoise.s.T, 0, -1)):
        step = sampler.step(denoise, x, i, draw, past)
        past = [Evaluation(i, x if step.x_t is None else step.x_t, step.x_0_hat), *past][: sampler.memory]
        x = step.x
        if on_step is not None:
            on_step(k, denoise.s.time[i - 1].item(), x, step.x_0_hat)
    return x


def chain_of(s: NoiseSchedule, times: Sequence[float] | None) -> NoiseSchedule:
    """`s` seen at these times: `respaced` if they are whole numbers, else `interpolated`."""
    if times is None:
        return s
    listed = torch.as_tensor(times)
    return s.interpolated(times) if listed.is_floating_point() else s.respaced(listed)


def _drawing(noise: Noise | None, x: Tensor) -> Callable[[], Tensor]:
    numbers = count()

    def draw() -> Tensor:
        if noise is None:
            raise ValueError("this sampler adds noise: pass noise=(k, shape) -> Tensor")
        return noise(next(numbers), x.shape).to(x)

    return draw
