"""Grey levels: integers 0..levels-1 in files, evenly spaced points of [-1, 1] in the process."""

import torch
from torch import Tensor


def to_unit(images: Tensor, levels: int) -> Tensor:
    """Integers 0..levels-1 to float32 in [-1, 1]: level v becomes 2 v / (levels - 1) - 1."""
    _check(levels)
    return images.to(torch.float32) * (2.0 / (levels - 1)) - 1.0


def to_levels(x: Tensor, levels: int) -> Tensor:
    """Values of [-1, 1] to uint8 levels, clamped and rounded (truncation would darken by half a level)."""
    _check(levels)
    return ((x.clamp(-1, 1) + 1) * ((levels - 1) / 2)).round().to(torch.uint8)


def on_levels(x_0: Tensor, levels: int) -> Tensor:
    """x_0 in float64, moved onto its level exactly. It is checked on the CPU only: elsewhere the check would wait."""
    _check(levels)
    if x_0.device.type == "cpu":
        check_on_levels(x_0, levels)
    return _nearest(x_0, levels) * (2 / (levels - 1)) - 1


def check_on_levels(x_0: Tensor, levels: int) -> None:
    """Refuse images that are not made of the data's levels. Waits for the device.

    Raises:
        ValueError: a pixel lies outside [-1, 1] or between the levels, where a discrete decoder has no probability.
    """
    _check(levels)
    worst = float((_position(x_0, levels) - _nearest(x_0, levels)).abs().max()) if x_0.numel() else 0.0
    if not worst < 1e-3:
        raise ValueError(
            f"x_0 must lie on the {levels} levels of [-1, 1], but a pixel is {worst:.3g} levels off; "
            "scale it with to_unit(images, levels), or use the GaussianDensity decoder for continuous data"
        )


def _position(x_0: Tensor, levels: int) -> Tensor:
    """Levels as real numbers: -1 is 0, and 1 the highest."""
    return (x_0.double() + 1) * ((levels - 1) / 2)


def _nearest(x_0: Tensor, levels: int) -> Tensor:
    return _position(x_0, levels).round().clamp(0, levels - 1)


def _check(levels: int) -> None:
    if not 2 <= levels <= 256:
        raise ValueError(f"levels must lie in 2..256, got {levels}")
