"""The curves of a run, as tensors: they are part of its state, so that an interruption leaves no mark in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from typing import Literal

import torch
from torch import Tensor

from diffusion.training.points import BoundPoint, LossPoint, Point

_NUMBERS = ("L_T", "L_t_sum", "L_0", "L_t_sum_se", "L_0_se", "total_se")


class History:
    """The points so far, and the sums towards the next."""

    def __init__(self, device: torch.device | str = "cpu", tallied: int = 0) -> None:
        """`tallied`: length of the sums that come with each step for the running bound."""
        self.losses: list[LossPoint] = []
        self.running: list[BoundPoint] = []
        self.bounds: list[BoundPoint] = []
        self._sums = torch.zeros(3 + tallied, dtype=torch.float64, device=device)

    @property
    def points(self) -> list[Point]:
        """All curves."""
        return [*self.losses, *self.running, *self.bounds]

    @property
    def tallied(self) -> Tensor:
        """The sums of the running bound since the last point, float64."""
        return self._sums[3:]

    @property
    def counted(self) -> int:
        """Steps since the last point. Waits for the device."""
        return int(self._sums[0].item())

    def add(self, loss: Tensor, gradient_norm: Tensor, tallied: Tensor, bad: Tensor | None = None) -> None:
        """Count a step; all stay on the device. The first two are (), and `bad` () is 1.0 where it does not count."""
        numbers = torch.cat([torch.stack([torch.ones_like(loss), loss, gradient_norm]), tallied])
        self._sums += numbers if bad is None else numbers.where(bad == 0, torch.zeros_like(numbers))

    def close(self, step: int, learning_rate: float) -> LossPoint:
        """End a point over the steps since the last one and return it. There must be one. Waits for the device."""
        loss, gradient_norm = (self._sums[1:3] / self._sums[0]).tolist()
        self._sums.zero_()
        point = LossPoint(step, loss, gradient_norm, learning_rate)
        self.losses.append(point)
        return point

    def tensors(self) -> dict[str, Tensor]:
        """Everything as float64 tensors: exact, since steps are below 2^53."""
        return {
            "losses": _table([astuple(point) for point in self.losses], len(fields(LossPoint))),
            "running": _bound_table(self.running),
            "bounds": _bound_table(self.bounds),
            "sums": self._sums,
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` gave."""
        self.losses = [LossPoint(int(step), *rest) for step, *rest in tensors["losses"].tolist()]
        self.running = _bound_points("running", tensors["running"])
        self.bounds = _bound_points("validation", tensors["bounds"])
        self._sums = tensors["sums"].to(self._sums.device, copy=True)


def _bound_table(points: Sequence[BoundPoint]) -> Tensor:
    rows = [(point.step, *(getattr(point, name) for name in _NUMBERS), *point.bins) for point in points]
    return _table(rows, len(rows[0]) if rows else 1 + len(_NUMBERS))


def _bound_points(source: Literal["running", "validation"], table: Tensor) -> list[BoundPoint]:
    last = len(_NUMBERS)
    return [
        BoundPoint(source, int(step), *rest[:last], bins=tuple(rest[last:]))  # type: ignore[misc]
        for step, *rest in table.tolist()
    ]


def _table(rows: Sequence[tuple[float, ...]], width: int) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).reshape(len(rows), width)
