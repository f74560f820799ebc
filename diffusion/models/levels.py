"""One resolution of the U-Net, on the way down and on the way up."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffusion.models.attention import SelfAttention
from diffusion.models.blocks import Downsample, ResidualBlock, Upsample


class AttentiveBlock(nn.Module):
    """A residual block, followed by self-attention where the resolution asks for it."""

    def __init__(self, residual: ResidualBlock, attention: SelfAttention | None) -> None:
        super().__init__()
        self.residual = residual
        self.attention = attention or nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(N, C, H, W) and the condition (N, condition_width) to (N, C', H, W)."""
        out: Tensor = self.attention(self.residual(x, condition))
        return out


class DownLevel(nn.Module):
    """The blocks of one resolution, then half that resolution. Every feature map on the way is remembered."""

    def __init__(self, blocks: Sequence[AttentiveBlock], downsample: Downsample | None) -> None:
        """`downsample` is None at the lowest resolution."""
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, h: Tensor, condition: Tensor, skips: list[Tensor]) -> Tensor:
        """Features of this level from those above it; appends what the way up will read to `skips`."""
        for block in self.blocks:
            h = block(h, condition)
            skips.append(h)
        if self.downsample is not None:
            h = self.downsample(h)
            skips.append(h)
        return h


class UpLevel(nn.Module):
    """The blocks of one resolution, each fed a remembered feature map beside its input, then twice that resolution."""

    def __init__(self, blocks: Sequence[AttentiveBlock], upsample: Upsample | None) -> None:
        """`upsample` is None at full resolution."""
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.upsample = upsample

    def forward(self, h: Tensor, condition: Tensor, skips: list[Tensor]) -> Tensor:
        """Features of this level from those below it; takes one of `skips` per block, the last first."""
        for block in self.blocks:
            h = block(torch.cat((h, skips.pop()), dim=1), condition)
        return h if self.upsample is None else self.upsample(h)
