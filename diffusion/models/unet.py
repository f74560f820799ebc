"""The U-Net that predicts the noise: Ho, Jain & Abbeel 2020, appendix B, and the code published with it."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from diffusion.models.architecture import Architecture
from diffusion.models.attention import SelfAttention
from diffusion.models.blocks import Downsample, ResidualBlock, Upsample
from diffusion.models.condition import Condition
from diffusion.models.fourier import fourier_features
from diffusion.models.layers import group_norm, silent
from diffusion.models.levels import AttentiveBlock, DownLevel, UpLevel


class UNet(nn.Module):
    """eps_hat = eps_theta(x_t, t): the noise in x_t, predicted (or x_0, or v, whatever it is trained on).

    Down through the resolutions, each `blocks` residual blocks deep; a middle with self-attention; up again, each block
    reading the feature map of the same size from the way down. Every residual block is told the time and the label. The
    last convolution starts at zero, so an untrained network predicts no noise and its L_simple is 1.

    With the CIFAR-10 settings of the paper (32, 3, 128, (1, 2, 2, 2), blocks=2, attention_resolutions=(16,),
    dropout=0.1) it has 35,746,307 parameters.

    The network works in either memory format; channels-last weights and images spare the attention its copies. The
    weights are drawn from torch's global generator: seed it before construction.
    """

    def __init__(
        self,
        image_size: int,
        in_channels: int,
        channels: int,
        channel_multipliers: Sequence[int],
        blocks: int = 2,
        attention_resolutions: Sequence[int] = (),
        attention_heads: int = 1,
        dropout: float = 0.0,
        classes: int | None = None,
        fourier_features: Sequence[int] = (),
        learned_variance: bool = False,
        null_label: bool = False,
    ) -> None:
        """Each argument is described at the field of `Architecture` with its name.

        Raises:
            ValueError: `image_size` cannot be halved once per level, an attention resolution never occurs, the heads do
                not divide the channels, or a number is out of range.
        """
        super().__init__()
        a = self.architecture = Architecture(
            image_size,
            in_channels,
            channels,
            tuple(channel_multipliers),
            blocks,
            tuple(attention_resolutions),
            attention_heads,
            dropout,
            classes,
            tuple(fourier_features),
            learned_variance,
            null_label,
        )
        self.condition = Condition(a.channels, a.condition_width, a.labels)
        self.head = nn.Conv2d(a.head_channels, a.channels, 3, padding=1)
        self.down = nn.ModuleList(_down_levels(a))
        self.middle = nn.ModuleList(_middle(a))
        self.up = nn.ModuleList(_up_levels(a))
        self.norm = group_norm(a.widths[0])
        self.tail = silent(nn.Conv2d(a.widths[0], a.out_channels, 3, padding=1))

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The predicted noise eps_hat, shaped like x_t; with a learned variance (N, 2 C, H, W), see `split_output`.

        Args:
            x_t: (N, C, H, W), noised images.
            t: (N,) times on the scale 0..T, LongTensor or floating.
            y: (N,) LongTensor of labels in 0..classes - 1 for a network built with `classes`, else None. With a null
                label `classes` itself is one too: the class is not told.

        Raises:
            ValueError: x_t, t or y is not as above.
        """
        self._check(x_t, t)
        condition = self.condition(t, y)
        h = self.head(fourier_features(x_t, self.architecture.fourier_features))
        skips = [h]
        for level in self.down:
            h = level(h, condition, skips)
        for block in self.middle:
            h = block(h, condition)
        for level in self.up:
            h = level(h, condition, skips)
        eps_hat: Tensor = self.tail(F.silu(self.norm(h)))
        return eps_hat

    def _check(self, x_t: Tensor, t: Tensor) -> None:
        c, height, width = self.architecture.shape
        if x_t.shape[1:] != (c, height, width):
            raise ValueError(f"x_t must be shaped (N, {c}, {height}, {width}), got {tuple(x_t.shape)}")
        if t.shape != x_t.shape[:1]:
            raise ValueError(f"t must be shaped ({len(x_t)},), a time per image, got {tuple(t.shape)}")


def _block(a: Architecture, in_channels: int, out_channels: int, *, attention: bool) -> AttentiveBlock:
    residual = ResidualBlock(in_channels, out_channels, a.condition_width, a.dropout)
    return AttentiveBlock(residual, SelfAttention(out_channels, a.attention_heads) if attention else None)


def _down_levels(a: Architecture) -> list[DownLevel]:
    levels = []
    in_channels = a.channels
    for side, width in zip(a.resolutions, a.widths, strict=True):
        attention = side in a.attention_resolutions
        sources = [in_channels, *[width] * (a.blocks - 1)]
        blocks = [_block(a, source, width, attention=attention) for source in sources]
        levels.append(DownLevel(blocks, None if side == a.resolutions[-1] else Downsample(width)))
        in_channels = width
    return levels


def _middle(a: Architecture) -> list[AttentiveBlock]:
    width = a.widths[-1]
    return [_block(a, width, width, attention=True), _block(a, width, width, attention=False)]


def _up_levels(a: Architecture) -> list[UpLevel]:
    skips = _skip_widths(a)
    levels = []
    in_channels = a.widths[-1]
    for side, width in reversed(list(zip(a.resolutions, a.widths, strict=True))):
        attention = side in a.attention_resolutions
        sources = [in_channels, *[width] * a.blocks]
        blocks = [_block(a, source + skips.pop(), width, attention=attention) for source in sources]
        levels.append(UpLevel(blocks, None if side == a.image_size else Upsample(width)))
        in_channels = width
    return levels


def _skip_widths(a: Architecture) -> list[int]:
    """Channels of the feature maps that the way down remembers: the head's, each block's, each halving's."""
    widths = [a.channels]
    for width in a.widths:
        widths += [width] * (a.blocks + 1)
    return widths[:-1]  # the lowest level is not halved
