"""The convolutional parts of the U-Net of Ho, Jain & Abbeel 2020 (appendix B): residual block, halving, doubling."""

from torch import Tensor, nn
from torch.nn import functional as F

from diffusion.models.layers import group_norm, silent


class ResidualBlock(nn.Module):
    """x + conv(dropout(silu(norm(conv(silu(norm(x))) + projection of the condition)))).

    The last convolution starts at zero, so the block starts as its shortcut. The shortcut is the identity, or a 1x1
    convolution where the number of channels changes.
    """

    def __init__(self, in_channels: int, out_channels: int, condition_width: int, dropout: float) -> None:
        super().__init__()
        self.norm_1 = group_norm(in_channels)
        self.conv_1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.condition = nn.Linear(condition_width, out_channels)
        self.norm_2 = group_norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv_2 = silent(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(N, in_channels, H, W) and the condition (N, condition_width) to (N, out_channels, H, W)."""
        h = self.conv_1(F.silu(self.norm_1(x)))
        h = h + self.condition(condition)[:, :, None, None]
        h = self.conv_2(self.dropout(F.silu(self.norm_2(h))))
        out: Tensor = self.shortcut(x) + h
        return out


class Downsample(nn.Module):
    """Half the height and width, by a 3x3 convolution with stride 2.

    One row below and one column to the right are added as zeros and none on the other sides, which is what Ho et al.'s
    TensorFlow does ("SAME"). A padding of 1 all round would see the image shifted by one pixel: weights trained with
    one do not carry over to the other.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), H and W even, to (N, C, H / 2, W / 2)."""
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return out


class Upsample(nn.Module):
    """Twice the height and width: every pixel repeated 2x2, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 2 H, 2 W)."""
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out
