"""The gradient of all parameters and all that travels with it in one flat tensor: a reduction is one operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Bucket:
    """The part of a flat gradient that belongs to some neighbouring parameters."""

    part: slice
    """Its elements in `flat`."""
    parameters: range
    """The numbers of the parameters."""


@dataclass(frozen=True)
class FlatGradient:
    """One float32 tensor; `views` are its parts in the shapes of the parameters."""

    flat: Tensor
    """(P + R + 2,) float32: the gradients of the P parameters in order, then the loss, R tallied sums, the wishes."""
    size: int
    """P."""
    views: list[Tensor]
    """Views into `flat`, one per parameter, in its shape and its order in memory."""

    @classmethod
    def like(cls, parameters: Sequence[Tensor], tallied: int = 0) -> FlatGradient:
        """A zero gradient on the device of `parameters`, which must be float32 and dense; R is `tallied`.

        The fused optimiser walks through memory, so each part lies there as its parameter does.
        """
        if wrong := {p.dtype for p in parameters} - {torch.float32}:
            raise ValueError(f"parameters must be float32, got {', '.join(map(str, wrong))}")
        if not all(map(_dense, parameters)):
            raise ValueError("parameters must be contiguous or channels-last, got a view that repeats or skips memory")
        sizes = [p.numel() for p in parameters]
        flat = torch.zeros(sum(sizes) + tallied + 2, device=parameters[0].device)
        parts = torch.split(flat, [*sizes, tallied + 2])[:-1]
        return cls(
            flat, sum(sizes), [part.as_strided(p.shape, p.stride()) for part, p in zip(parts, parameters, strict=True)]
        )

    @property
    def gradient(self) -> Tensor:
        """(P,): the gradients alone."""
        return self.flat[: self.size]

    @property
    def loss(self) -> Tensor:
        """(): the loss."""
        return self.flat[self.size]

    @property
    def tallied(self) -> Tensor:
        """(R,): the sums that travel with the gradient."""
        return self.flat[self.size + 1 : -1]

    @property
    def wishes(self) -> Tensor:
        """(): more than 0 if a worker wishes to stop after this step. So all workers know it at the same step."""
        return self.flat[-1]

    @property
    def rest(self) -> Tensor:
        """(R + 2,): all that is no gradient."""
        return self.flat[self.size :]

    def attach(self, parameters: Sequence[nn.Parameter]) -> None:
        """Make each parameter's `grad` the view that belongs to it: a backward pass then adds to this gradient."""
        for parameter, view in zip(parameters, self.views, strict=True):
            parameter.grad = view

    def set(self, gradients: Sequence[Tensor], loss: Tensor, tallied: Tensor) -> None:
        """Overwrite with the gradients of the parameters, their loss and the sums."""
        torch._foreach_copy_(self.views, list(gradients))
        self.loss.copy_(loss)
        self.tallied.copy_(tallied)

    def add(self, gradients: Sequence[Tensor], loss: Tensor, tallied: Tensor) -> None:
        """Add them."""
        torch._foreach_add_(self.views, list(gradients))
        self.loss.add_(loss)
        self.tallied.add_(tallied)

    def buckets(self, size: int) -> list[Bucket]:
        """The whole of `flat`, cut into parts of whole parameters and at least `size` elements, but for the last.

        The last parameters come first, as a backward pass brings them. What is no gradient is known before it begins,
        and belongs to the first bucket.
        """
        found = []
        begin, end, above = self.size, len(self.flat), len(self.views)
        for i in reversed(range(len(self.views))):
            begin -= self.views[i].numel()
            if end - begin >= size or i == 0:
                found.append(Bucket(slice(begin, end), range(i, above)))
                end, above = begin, i
        return found


def _dense(parameter: Tensor) -> bool:
    """Whether the last element lies just as far from the first as there are others."""
    farthest = sum((n - 1) * step for n, step in zip(parameter.shape, parameter.stride(), strict=True))
    return farthest == parameter.numel() - 1
