"""From an image to the noise that DDIM draws it from."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffusion.process.parameterization import Target
from diffusion.process.schedule import NoiseSchedule
from diffusion.samplers.loop import Denoiser, Model, chain_of


@torch.no_grad()
def invert(
    model: Model,
    s: NoiseSchedule,
    x_0: Tensor,
    *,
    times: Sequence[float] | None = None,
    clip_x0: bool = True,
    target: Target | str = Target.EPS,
) -> Tensor:
    """x_{i+1} = sqrt(a-bar_{i+1}) x_0_hat + sqrt(1 - a-bar_{i+1}) eps_hat(x_i, t_i): the ODE of DDIM, backwards.

    Song, Meng & Ermon 2021, section 4.3. The first step, from the data, takes the noise that the network sees in x_0 at
    the first time, for it knows no t = 0. `sample` with `DDIM()` leads back up to an error of order 1. One call of the
    network per step.

    Args:
        x_0: (N, C, H, W).
        model, times, clip_x0, target: as in `sample`.

    Returns:
        x_T, (N, C, H, W).
    """
    denoise = Denoiser(model, chain_of(s, times).to(x_0.device), clip_x0, target)
    a, b = denoise.s.alpha_bar.sqrt(), denoise.s.one_minus_alpha_bar.sqrt()
    x = a[1] * x_0 + b[1] * denoise(x_0, 1).eps_hat
    for i in range(1, denoise.s.T):
        x_0_hat, eps_hat, _ = denoise(x, i)
        x = a[i + 1] * x_0_hat + b[i + 1] * eps_hat
    return x
