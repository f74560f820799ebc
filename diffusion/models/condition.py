"""What the residual blocks are told besides the image: the time and, in a network with classes, the label."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion.models.embedding import TimeEmbedding


class Condition(nn.Module):
    """silu(embedding of t + embedding of y), one vector per image for all residual blocks.

    The label's vector is added to the time's as in Nichol & Dhariwal 2021. The SiLU that Ho, Jain & Abbeel 2020
    apply in each block is applied here once.
    """

    def __init__(self, sinusoids: int, width: int, labels: int | None) -> None:
        super().__init__()
        self.time = TimeEmbedding(sinusoids, width)
        self.label = None if labels is None else nn.Embedding(labels, width)

    def forward(self, t: Tensor, y: Tensor | None) -> Tensor:
        """(N,) times and (N,) labels, or None, to (N, width).

        Raises:
            ValueError: a label is given to a network without classes, or missing from one with, or cannot be one.
        """
        time: Tensor = self.time(t)
        if self.label is None:
            if y is not None:
                raise ValueError(
                    "labels y were given to a network without classes: leave y out or build it with classes"
                )
            return F.silu(time)
        return F.silu(time + self.label(_checked(y, len(t), self.label.num_embeddings)))


def _checked(y: Tensor | None, count: int, labels: int) -> Tensor:
    """The labels, refused unless each image has one. The range is checked on the CPU only: elsewhere it would wait."""
    wanted = f"this network needs labels y, a LongTensor of shape ({count},) in 0..{labels - 1}"
    if y is None:
        raise ValueError(f"{wanted}, got none")
    if y.dtype != torch.int64 or y.shape != (count,):
        raise ValueError(f"{wanted}, got {y.dtype} {tuple(y.shape)}")
    if y.device.type == "cpu" and count and not (0 <= int(y.min()) and int(y.max()) < labels):
        raise ValueError(f"{wanted}, got {int(y.min())}..{int(y.max())}")
    return y
