"""Some moments of the reverse process, kept for pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diffusion.process import to_levels


@dataclass(frozen=True)
class Frames:
    """x_t of some images at some times."""

    times: list[float] = field(default_factory=list)
    """The times shown, from T down to 0."""
    images: list[NDArray[np.uint8]] = field(default_factory=list)
    """For each of them x_t of the images, uint8 (n, C, H, W) in 0..levels-1."""

    @classmethod
    def joined(cls, parts: Sequence[Frames]) -> Frames:
        """Of neighbouring batches; those that keep none are left out."""
        kept = [part for part in parts if part.times]
        if not kept:
            return cls()
        return cls(kept[0].times, [np.concatenate(moment) for moment in zip(*(p.images for p in kept), strict=True)])


class Recorder:
    """Keeps x_t of the first images of a batch at moments spread evenly over the steps, the last one included."""

    def __init__(self, times: Sequence[float], levels: int, images: int, moments: int) -> None:
        count = min(moments, len(times))
        self._shown = {round((j + 1) * len(times) / count) - 1 for j in range(count)}
        self._levels = levels
        self._n = images
        self.kept = Frames()

    def on_step(self, k: int, reached: float, x: Tensor, x_0_hat: Tensor) -> None:
        """To be handed to `diffusion.samplers.sample`."""
        if k in self._shown:
            self.keep(reached, x)

    def keep(self, t: float, x: Tensor) -> None:
        """Keep this moment in any case."""
        self.kept.times.append(t)
        self.kept.images.append(to_levels(x[: self._n], self._levels).cpu().numpy())
