"""The classifier of noised images that guides sampling: Dhariwal & Nichol 2021, section 4.1."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from diffusion.models.architecture import Architecture
from diffusion.models.encoder import Encoder
from diffusion.models.layers import group_norm, silent


class Classifier(Encoder):
    """log p(y | x_t), up to a constant of each image: the U-Net's way down, then the mean over the positions.

    The last layer starts at zero, so an untrained classifier holds all classes for equally likely, and its gradient
    leads nowhere. The weights are drawn from torch's global generator: seed it before construction.
    """

    def __init__(
        self,
        classes: int,
        image_size: int,
        in_channels: int,
        channels: int,
        channel_multipliers: Sequence[int],
        blocks: int = 2,
        attention_resolutions: Sequence[int] = (),
        attention_heads: int = 1,
        dropout: float = 0.0,
        fourier_features: Sequence[int] = (),
    ) -> None:
        """Each argument is described at the field of `Architecture` with its name; `classes` are those told apart.

        Raises:
            ValueError: fewer than two classes, or as `UNet`.
        """
        if classes < 2:
            raise ValueError(f"a classifier tells two classes or more apart, got {classes}")
        a = Architecture(
            image_size,
            in_channels,
            channels,
            tuple(channel_multipliers),
            blocks,
            tuple(attention_resolutions),
            attention_heads,
            dropout,
            fourier_features=tuple(fourier_features),
        )
        super().__init__(a)
        self.classes = classes
        self.norm = group_norm(a.widths[-1])
        self.to_scores = silent(nn.Linear(a.widths[-1], classes))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Noised images (N, C, H, W) and their times (N,) on the scale 0..T to (N, classes).

        Raises:
            ValueError: x_t or t is not shaped so.
        """
        h, _, _ = self.encode(x_t, t)
        scores: Tensor = self.to_scores(F.silu(self.norm(h)).mean(dim=(2, 3)))
        return scores

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments that make it, as JSON values."""
        others = {"classes", "learned_variance", "null_label"}
        values = {name: value for name, value in self.architecture.to_json().items() if name not in others}
        return {"classes": self.classes, **values}
