"""The curves of a run, as tensors: they are part of its state, so that an interruption leaves no mark in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, fields

import torch
from torch import Tensor

from diffusion.training.points import BoundPoint, LossPoint, Point


class History:
    """The points so far, and the sums towards the next."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.losses: list[LossPoint] = []
        self.bounds: list[BoundPoint] = []
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)

    @property
    def points(self) -> list[Point]:
        """Both curves."""
        return [*self.losses, *self.bounds]

    def add(self, loss: Tensor, gradient_norm: Tensor) -> None:
        """Count a step; both are () and stay on the device."""
        self._sums += torch.stack([loss, gradient_norm])

    def close(self, step: int, steps: int, learning_rate: float) -> LossPoint:
        """End a point over the last `steps` steps and return it. Waits for the device."""
        loss, gradient_norm = (self._sums / steps).tolist()
        self._sums.zero_()
        point = LossPoint(step, loss, gradient_norm, learning_rate)
        self.losses.append(point)
        return point

    def tensors(self) -> dict[str, Tensor]:
        """Everything as float64 tensors: exact, since steps are below 2^53."""
        return {
            "losses": _table(self.losses, len(fields(LossPoint))),
            "bounds": _table(self.bounds, len(fields(BoundPoint))),
            "sums": self._sums,
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` gave."""
        self.losses = [LossPoint(int(step), *rest) for step, *rest in tensors["losses"].tolist()]
        self.bounds = [BoundPoint(int(step), *rest) for step, *rest in tensors["bounds"].tolist()]
        self._sums.copy_(tensors["sums"])


def _table(points: list[LossPoint] | list[BoundPoint], width: int) -> Tensor:
    rows = [astuple(point) for point in points]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(rows), width)
