"""The way down through the resolutions and the middle: what the U-Net and the classifier have in common."""

from torch import Tensor, nn

from diffusion.models.architecture import Architecture
from diffusion.models.attention import SelfAttention
from diffusion.models.blocks import Downsample, ResidualBlock
from diffusion.models.condition import Condition
from diffusion.models.fourier import fourier_features
from diffusion.models.levels import AttentiveBlock, DownLevel


class Encoder(nn.Module):
    """A noised image to features at the lowest resolution; a network is derived from it and goes on from there."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.condition = Condition(a.channels, a.condition_width, a.labels)
        self.head = nn.Conv2d(a.head_channels, a.channels, 3, padding=1)
        self.down = nn.ModuleList(_down_levels(a))
        width = a.widths[-1]
        self.middle = nn.ModuleList([block(a, width, width, attention=each) for each in (True, False)])

    def encode(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Features at the lowest resolution, (N, C', H', W').

        Also the condition of each image, (N, condition_width), and every feature map of the way down in order.

        Raises:
            ValueError: x_t, t or y is not as the network wants it.
        """
        c, height, width = self.architecture.shape
        if x_t.shape[1:] != (c, height, width):
            raise ValueError(f"x_t must be shaped (N, {c}, {height}, {width}), got {tuple(x_t.shape)}")
        if t.shape != x_t.shape[:1]:
            raise ValueError(f"t must be shaped ({len(x_t)},), a time per image, got {tuple(t.shape)}")
        condition: Tensor = self.condition(t, y)
        h: Tensor = self.head(fourier_features(x_t, self.architecture.fourier_features))
        skips = [h]
        for level in self.down:
            h = level(h, condition, skips)
        for each in self.middle:
            h = each(h, condition)
        return h, condition, skips


def block(a: Architecture, in_channels: int, out_channels: int, *, attention: bool) -> AttentiveBlock:
    """A residual block of this network, with self-attention or without."""
    residual = ResidualBlock(in_channels, out_channels, a.condition_width, a.dropout)
    return AttentiveBlock(residual, SelfAttention(out_channels, a.attention_heads) if attention else None)


def _down_levels(a: Architecture) -> list[DownLevel]:
    levels = []
    in_channels = a.channels
    for side, width in zip(a.resolutions, a.widths, strict=True):
        attention = side in a.attention_resolutions
        sources = [in_channels, *[width] * (a.blocks - 1)]
        blocks = [block(a, source, width, attention=attention) for source in sources]
        levels.append(DownLevel(blocks, None if side == a.resolutions[-1] else Downsample(width)))
        in_channels = width
    return levels
