"""The numbers that define a U-Net, checked before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """The arguments of `UNet`, as they are kept in a model file."""

    image_size: int
    """Height and width of the images in pixels; halved once per further entry of `channel_multipliers`."""
    in_channels: int
    """1 for grey, 3 for RGB."""
    channels: int
    """Width at full resolution; also the number of sinusoids of the time embedding, so even and 4 or more."""
    channel_multipliers: tuple[int, ...]
    """Width at each resolution over `channels`, from full resolution downwards."""
    blocks: int = 2
    """Residual blocks per resolution on the way down; one more on the way up."""
    attention_resolutions: tuple[int, ...] = ()
    """Sides of the feature maps whose blocks are followed by self-attention; the middle has it always."""
    attention_heads: int = 1
    """Heads of each self-attention."""
    dropout: float = 0.0
    """Share of features dropped before the last convolution of each residual block."""
    classes: int | None = None
    """Number of class labels; None for a network without labels."""
    fourier_features: tuple[int, ...] = ()
    """Exponents n of the sin(2^n pi x_t) and cos(2^n pi x_t) that the first convolution reads beside x_t."""
    learned_variance: bool = False
    """Whether twice the channels come out: the prediction, and where each pixel's variance lies between both fixed
    ones."""
    null_label: bool = False
    """Whether the label `classes`, one above the last, means that the network is not told the class."""

    def __post_init__(self) -> None:
        self._check_ranges()
        self._check_halving()
        self._check_attention()

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Architecture:
        """From the keyword arguments of `UNet`, lists allowed.

        Raises:
            ValueError: an argument is unknown, missing or cannot be.
        """
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(f"unknown in the architecture: {', '.join(unknown)}; known are {', '.join(known)}")
        if missing := [f.name for f in fields(cls) if f.default is MISSING and f.name not in values]:
            raise ValueError(f"missing in the architecture: {', '.join(missing)}")
        arguments: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**arguments)

    def to_json(self) -> dict[str, Any]:
        """All arguments, defaults included, as JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.in_channels, self.image_size, self.image_size

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Side of the feature maps at each level, from full resolution downwards."""
        return tuple(self.image_size >> level for level in range(len(self.channel_multipliers)))

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at each level, from full resolution downwards."""
        return tuple(self.channels * multiplier for multiplier in self.channel_multipliers)

    @property
    def head_channels(self) -> int:
        """Channels that the first convolution reads: the image's, and a sine and a cosine of each per exponent."""
        return self.in_channels * (1 + 2 * len(self.fourier_features))

    @property
    def out_channels(self) -> int:
        """Channels that come out."""
        return self.in_channels * (2 if self.learned_variance else 1)

    @property
    def labels(self) -> int | None:
        """Labels that the network is told apart, the null label included."""
        return None if self.classes is None else self.classes + self.null_label

    @property
    def condition_width(self) -> int:
        """Features of the vector of time and label that every residual block is told."""
        return 4 * self.channels

    def _check_ranges(self) -> None:
        counts = {name: getattr(self, name) for name in ("image_size", "in_channels", "blocks", "attention_heads")}
        counts |= {f"channel_multipliers[{i}]": m for i, m in enumerate(self.channel_multipliers)}
        counts |= {} if self.classes is None else {"classes": self.classes}
        for name, value in counts.items():
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")
        if self.null_label and self.classes is None:
            raise ValueError("null_label is of a network with labels: give classes, or leave null_label out")
        if not self.channel_multipliers:
            raise ValueError("channel_multipliers must name at least one level, for example (1,)")
        if self.channels < 4 or self.channels % 2:
            raise ValueError(
                f"channels must be even and 4 or more (half are sines of t, half cosines), got {self.channels}"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")
        if wrong := [n for n in self.fourier_features if not 0 <= n <= 10]:
            raise ValueError(f"fourier_features must be exponents in 0..10, got {wrong[0]}")
        if len(set(self.fourier_features)) < len(self.fourier_features):
            raise ValueError(f"fourier_features must name each exponent once, got {list(self.fourier_features)}")

    def _check_halving(self) -> None:
        levels = len(self.channel_multipliers)
        divisor = 2 ** (levels - 1)
        if self.image_size % divisor:
            raise ValueError(
                f"image_size {self.image_size} cannot be halved {levels - 1} times: with {levels} channel_multipliers "
                f"it must be a multiple of {divisor}, for example {(self.image_size // divisor + 1) * divisor}; "
                "or give fewer channel_multipliers"
            )

    def _check_attention(self) -> None:
        if never := sorted(set(self.attention_resolutions) - set(self.resolutions)):
            raise ValueError(
                f"attention_resolutions {never} do not occur in this network: "
                f"the sides of its feature maps are {list(self.resolutions)}"
            )
        attentive = {
            w for side, w in zip(self.resolutions, self.widths, strict=True) if side in self.attention_resolutions
        }
        for width in sorted(attentive | {self.widths[-1]}):
            if width % self.attention_heads:
                raise ValueError(
                    f"attention_heads {self.attention_heads} must divide the {width} channels of a feature map with "
                    "attention (the lowest always has it): change attention_heads or channels"
                )
