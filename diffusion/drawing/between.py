"""The way from one noise to another."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from diffusion.drawing.draw import start_of


def between(seeds: tuple[int, int], ids: Sequence[int], shape: Sequence[int], points: int) -> Tensor:
    """x_T of each image at `points` places from the first seed's to the second's, (N, points, C, H, W).

    On the arc cos(a) x_T + sin(a) x'_T, a = 0 .. pi / 2, every place is standard normal; half-way along the straight
    line the noise would have half the variance, which no image is drawn from (Song, Meng & Ermon 2021, appendix D.5,
    go along the arc as well).

    Raises:
        ValueError: fewer than two places.
    """
    if points < 2:
        raise ValueError(f"the way from one seed to another needs 2 places or more, got {points}")
    begin, end = (start_of(seed, ids, shape)[:, None] for seed in seeds)
    angle = torch.linspace(0, np.pi / 2, points, dtype=torch.float64).view(-1, 1, 1, 1)
    place = angle.cos() * begin.double() + angle.sin() * end.double()
    place[:, 0], place[:, -1] = begin[:, 0], end[:, 0]
    return place.float()
