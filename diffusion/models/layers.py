"""What the parts of the network share: group normalisation, and layers that start silent.

All other weights start as PyTorch draws them, uniform with variance 1 / (3 fan_in), as in the code of Nichol &
Dhariwal 2021; only the embedding of a label is standard normal, PyTorch's way too. Ho, Jain & Abbeel 2020 draw them
with Glorot's larger variance; on the digits that learns more slowly.
"""

from typing import TypeVar

from torch import nn

_LARGEST_GROUP_COUNT = 32
_FEWEST_CHANNELS_PER_GROUP = 4

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def silent(layer: Layer) -> Layer:
    """The same layer with weights and biases of zero.

    The last layer of each residual branch starts so: the branch adds nothing at first, and the network begins as a
    short path from input to output (Ho, Jain & Abbeel 2020, code).
    """
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation of (N, channels, H, W) with a gain and an offset per channel; epsilon as in Ho et al."""
    return nn.GroupNorm(group_count(channels), channels, eps=1e-6)


def group_count(channels: int) -> int:
    """The number of groups: the largest divisor of `channels` up to 32 that leaves four channels or more in a group.

    For the widths of the paper (128 channels and more) these are its 32 groups. Narrower networks keep its smallest
    group, four channels, rather than its number of groups: a group of one channel would take away that channel's mean
    and scale over the image, and on a 1x1 map everything.
    """
    most = min(_LARGEST_GROUP_COUNT, channels // _FEWEST_CHANNELS_PER_GROUP)
    return next((count for count in range(most, 0, -1) if channels % count == 0), 1)
