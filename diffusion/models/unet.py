"""The U-Net that predicts the noise: Ho, Jain & Abbeel 2020, appendix B, and the code published with it."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from diffusion.models.architecture import Architecture
from diffusion.models.blocks import Upsample
from diffusion.models.encoder import Encoder, block
from diffusion.models.layers import group_norm, silent
from diffusion.models.levels import UpLevel


class UNet(Encoder):
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
        a = Architecture(
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
        super().__init__(a)
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
        h, condition, skips = self.encode(x_t, t, y)
        for level in self.up:
            h = level(h, condition, skips)
        eps_hat: Tensor = self.tail(F.silu(self.norm(h)))
        return eps_hat


def _up_levels(a: Architecture) -> list[UpLevel]:
    skips = _skip_widths(a)
    levels = []
    in_channels = a.widths[-1]
    for side, width in reversed(list(zip(a.resolutions, a.widths, strict=True))):
        attention = side in a.attention_resolutions
        sources = [in_channels, *[width] * a.blocks]
        blocks = [block(a, source + skips.pop(), width, attention=attention) for source in sources]
        levels.append(UpLevel(blocks, None if side == a.image_size else Upsample(width)))
        in_channels = width
    return levels


def _skip_widths(a: Architecture) -> list[int]:
    """Channels of the feature maps that the way down remembers: the head's, each block's, each halving's."""
    widths = [a.channels]
    for width in a.widths:
        widths += [width] * (a.blocks + 1)
    return widths[:-1]  # the lowest level is not halved
