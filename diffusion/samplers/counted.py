"""Counting calls of the network."""

from dataclasses import dataclass

from torch import Tensor

from diffusion.samplers.loop import Model


@dataclass
class Counted:
    """A model that counts its calls: those of an adaptive sampler are known only afterwards."""

    model: Model
    calls: int = 0

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        return self.model(x_t, t)
