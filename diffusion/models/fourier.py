"""Fourier features of the input: what lets a network see detail that is finer than its weights resolve."""

from collections.abc import Sequence
from math import pi

import torch
from torch import Tensor


def fourier_features(x: Tensor, exponents: Sequence[int]) -> Tensor:
    """(x, sin(2^n pi x), cos(2^n pi x) for each n), joined along the channels. Kingma et al. 2021, section 4.2.

    The bits of an image with L levels lie in differences of 2 / (L - 1), which the last noise of the process barely
    hides; a wave with that period shows a network at once between which levels a pixel stands. For 17 levels that is
    n = 4, and n = 3 tells even from odd; for 256 levels Kingma et al. take 7 and 8.

    Args:
        x: (N, C, H, W).
        exponents: k values of n; without any, x itself is returned.

    Returns:
        (N, C (1 + 2 k), H, W).
    """
    if not exponents:
        return x
    waves = [wave(x * (2.0**n * pi)) for n in exponents for wave in (torch.sin, torch.cos)]
    return torch.cat([x, *waves], dim=1)
