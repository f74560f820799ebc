"""From a network that is told t - 1 to one that is told t, and back.

Other libraries count times from 0, so that their networks were trained on t - 1 = 0..T-1. For sinusoids the shift is a
rotation of each pair (sin, cos), and the first layer that reads them is linear, so it can take the rotation in:

    a sin(w (t - 1)) + b cos(w (t - 1)) = (a cos w + b sin w) sin(w t) + (b cos w - a sin w) cos(w t)

The network's outputs stay what they were, up to the rounding of the angles in float32.
"""

import torch
from torch import Tensor

from diffusion.models.embedding import sinusoidal_embedding


def told_t(weight: Tensor) -> Tensor:
    """The first layer's weight, (width, d) float64, for sinusoids of t, from one for sinusoids of t - 1.

    The first half of the columns is of the sines, as in `sinusoidal_embedding`.
    """
    return _turned(weight, 1.0)


def told_t_minus_1(weight: Tensor) -> Tensor:
    """The inverse of `told_t`."""
    return _turned(weight, -1.0)


def _turned(weight: Tensor, direction: float) -> Tensor:
    a, b = weight.double().chunk(2, dim=1)
    sin_w, cos_w = sinusoidal_embedding(torch.ones(1), weight.shape[1]).double().chunk(2, dim=1)
    w = direction * torch.atan2(sin_w, cos_w).to(
        weight.device
    )  # in float64 a rotation again, and undone by the opposite one
    return torch.cat([a * w.cos() + b * w.sin(), b * w.cos() - a * w.sin()], dim=1)
