"""How the network is told the time: a sinusoidal embedding, then a small perceptron."""

from math import log

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LONGEST_PERIOD = 10_000  # over 2 pi


def sinusoidal_embedding(t: Tensor, dimension: int) -> Tensor:
    """(sin(w_0 t), .., sin(w_{h-1} t), cos(w_0 t), .., cos(w_{h-1} t)), h = dimension / 2, w_i = 10000^(-i / (h - 1)).

    Vaswani et al. 2017, section 3.5, in the order and with the denominator of the code of Ho, Jain & Abbeel 2020
    (get_timestep_embedding), which are tensor2tensor's. Other libraries put cos first and divide by h: weights trained
    on one form do not carry over to the other.

    Args:
        t: (N,) times on the scale 0..T, integer or floating. They are taken as they are: t = 1 is the first noised
            image.
        dimension: even, 4 or more.

    Returns:
        (N, dimension) float32, whatever the type of `t`: in bfloat16 neighbouring times above 256 would be the same.

    Raises:
        ValueError: `dimension` is odd or below 4.
    """
    if dimension < 4 or dimension % 2:
        raise ValueError(
            f"half of the embedding are sines, half cosines: it must be even and 4 or more, got {dimension}"
        )
    half = dimension // 2
    index = torch.arange(half, dtype=torch.float32, device=t.device)
    frequency = torch.exp(index * (-log(_LONGEST_PERIOD) / (half - 1)))
    angle = t.to(torch.float32)[:, None] * frequency
    return torch.cat((angle.sin(), angle.cos()), dim=1)


class TimeEmbedding(nn.Module):
    """The time as features: sinusoids of t, affine, SiLU, affine (Ho, Jain & Abbeel 2020)."""

    def __init__(self, dimension: int, width: int) -> None:
        """From `dimension` sinusoids (even, 4 or more) to `width` features."""
        super().__init__()
        self.dimension = dimension
        self.dense_1 = nn.Linear(dimension, width)
        self.dense_2 = nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        """(N,) times, integer or floating, to (N, width)."""
        sinusoids = sinusoidal_embedding(t, self.dimension).to(self.dense_1.weight.dtype)
        embedding: Tensor = self.dense_2(F.silu(self.dense_1(sinusoids)))
        return embedding
