"""The one loop over t. Samplers are the small objects that take its steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from diffusion.process.parameterization import Target, to_eps, x_0_to_eps
from diffusion.process.reverse import first_non_finite, predict_x_0, split_output
from diffusion.process.schedule import NoiseSchedule

Model = Callable[[Tensor, Tensor], Tensor]
Noise = Callable[[int, torch.Size], Tensor]
OnStep = Callable[[int, int, Tensor, Tensor], None]


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

    def index(self, i: int, x: Tensor) -> Tensor:
        """i for each image of the batch, LongTensor (N,)."""
        return torch.full((len(x),), i, device=x.device)

    def __call__(self, x_t: Tensor, i: int) -> Prediction:
        index = self.index(i, x_t)
        output = self.model(x_t, self.s.time[index])
        prediction, v = split_output(output, x_t)
        if (image := first_non_finite(output)) is not None:
            t = int(self.s.time[i])
            raise ValueError(f"the model's prediction is not finite for image {image} of the batch at t = {t}")
        x_0_hat = predict_x_0(self.s, x_t, index, prediction, clip=self.clip_x0, target=self.target)
        if self.clip_x0:
            return Prediction(x_0_hat, x_0_to_eps(self.s, x_t, index, x_0_hat), v)
        return Prediction(x_0_hat, to_eps(self.s, x_t, index, prediction, self.target), v)


class Step(NamedTuple):
    """Where a step led."""

    x: Tensor
    """x at the next smaller time of the chain, (N, C, H, W)."""
    x_0_hat: Tensor
    """The prediction it was made from."""


class Sampler(Protocol):
    """One step from index i of the chain `denoise.s` to i - 1."""

    def step(self, denoise: Denoiser, x_t: Tensor, i: int, draw: Callable[[], Tensor]) -> Step:
        """Take the step; `draw()` gives standard normal noise of x_t's shape. At i = 1 no noise is added."""
        ...


@torch.no_grad()
def sample(
    model: Model,
    s: NoiseSchedule,
    x_T: Tensor,
    sampler: Sampler,
    *,
    times: Sequence[int] | None = None,
    noise: Noise | None = None,
    clip_x0: bool = True,
    target: Target | str = Target.EPS,
    on_step: OnStep | None = None,
) -> Tensor:
    """Draw images: from x_T down to x_0, the last step without noise. Ho et al. 2020, algorithm 2.

    Args:
        model: (x_t, t) -> eps_hat, all (N, C, H, W), t a LongTensor (N,) of times of the full process. In eval mode.
            One with a learned variance returns 2 C channels (`split_output`); samplers that do not ask for it leave it.
        x_T: (N, C, H, W), standard normal.
        sampler: how to step.
        times: the times to visit, decreasing; None visits T..1.
        noise: (k, shape) -> standard normal noise for the k-th step, k = 0 being the one that leaves x_T; not asked for
            by a sampler that adds none.
        clip_x0: clip the predicted image to [-1, 1] at each step.
        target: what the model predicts, if not eps.
        on_step: called after each step with (k, the time reached, x, x_0_hat).

    Returns:
        x_0, (N, C, H, W).

    Raises:
        ValueError: times that are not decreasing within T..1, noise missing, or a prediction of the wrong shape or not
            finite (the message names image and time).
    """
    denoise = Denoiser(model, s.respaced(times).to(x_T.device), clip_x0, target)
    x = x_T
    for k, i in enumerate(range(denoise.s.T, 0, -1)):
        x, x_0_hat = sampler.step(denoise, x, i, _drawing(noise, k, x))
        reached = int(denoise.s.time[i - 1])
        if on_step is not None:
            on_step(k, reached, x, x_0_hat)
    return x


def _drawing(noise: Noise | None, k: int, x: Tensor) -> Callable[[], Tensor]:
    def draw() -> Tensor:
        if noise is None:
            raise ValueError("this sampler adds noise: pass noise=(k, shape) -> Tensor")
        return noise(k, x.shape).to(x)

    return draw
