"""The training objective."""

from collections.abc import Callable

from torch import Tensor

from diffusion.process.forward import q_sample
from diffusion.process.reverse import split_output
from diffusion.process.schedule import NoiseSchedule


def simple_loss(
    model: Callable[[Tensor, Tensor], Tensor], s: NoiseSchedule, x_0: Tensor, t: Tensor, eps: Tensor
) -> Tensor:
    """L_simple = ||eps - eps_theta(x_t, t)||^2 / dims for each image, (N,). Ho et al. 2020, eq. 14.

    Its mean over uniformly drawn t, over images and eps is the objective. `diffusion.training.objective` has it with
    weightings, other targets and the bound beside it.

    Args:
        model: (x_t, t) -> eps_hat, all (N, C, H, W), t a LongTensor (N,).
        x_0: (N, C, H, W) in [-1, 1].
        t: LongTensor (N,) in 1..T.
        eps: (N, C, H, W), standard normal.
    """
    x_t = q_sample(s, x_0, t, eps)
    eps_hat, _ = split_output(model(x_t, t), x_t, learned=False)
    return ((eps - eps_hat) ** 2).flatten(1).mean(dim=1)
