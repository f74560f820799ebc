"""Guidance: images of a class that is asked for, more surely than a network gives them that is told it.

Both kinds multiply p(x_t) by a power of p(y | x_t). `ClassifierFree` knows it from what being told the class changes in
a network's prediction, `ClassifierGuide` from a classifier of noised images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Interval = tuple[float, float]
"""The times, from the smaller to the larger, both included, at which there is guidance."""


@dataclass(frozen=True, eq=False)
class ClassifierFree:
    """A model (x_t, t) that is told the class, and led away from what it says when it is not.

        eps_hat = (1 + w) eps_theta(x_t, t, y) - w eps_theta(x_t, t)       Ho & Salimans 2022, eq. 6

    w = 0 is the network that is told the class, w = -1 the one that is not. A predicted x_0, v or score is led alike:
    at fixed x_t they are affine in eps, and the factors add up to 1. A learned variance is that of the network that is
    told. Outside the interval w is 0 (Kynkaanniemi et al. 2024: there guidance costs variety and gains nothing).

    The network is called once: for 2 N images within the interval, for N outside.
    """

    net: Callable[..., Tensor]
    """(x_t, t, y=..) -> prediction."""
    y: Tensor
    """(N,) int64: the classes that are asked for."""
    null_label: int
    """What tells the network no class."""
    scale: float
    """w."""
    interval: Interval | None = None
    """None: all times."""

    def __post_init__(self) -> None:
        check_interval(self.interval)

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        w, N = self.scale, len(x_t)
        rows = _inside(t, self.interval)
        if w == 0 or not len(rows):
            return self.net(x_t, t, y=self.y)
        null = torch.full_like(self.y[rows], self.null_label)
        both = self.net(torch.cat([x_t, x_t[rows]]), torch.cat([t, t[rows]]), y=torch.cat([self.y, null]))
        told, untold, C = both[:N].clone(), both[N:], x_t.shape[1]
        told[rows, :C] = (1 + w) * told[rows, :C] - w * untold[:, :C]
        return told


@dataclass(frozen=True, eq=False)
class ClassifierGuide:
    """s grad log p(y | x_t), of a classifier of noised images. Dhariwal & Nichol 2021, section 4.

    s = 1 makes of p(x_t) the conditional p(x_t | y), if the classifier is right; more makes the class surer and the
    images more alike. Outside the interval the gradient is 0, and the classifier is not called.
    """

    classifier: Callable[[Tensor, Tensor], Tensor]
    """(x_t, t) -> (N, classes): log p(y | x_t) for each class, up to a constant of each image."""
    y: Tensor
    """(N,) int64: the classes that are asked for."""
    scale: float = 1.0
    """s."""
    interval: Interval | None = None
    """None: all times."""

    def __post_init__(self) -> None:
        check_interval(self.interval)

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """(N, C, H, W). It may be called without gradients: those that it needs it takes itself."""
        pull = torch.zeros_like(x_t)
        rows = _inside(t, self.interval)
        if self.scale == 0 or not len(rows):
            return pull
        with torch.enable_grad():
            x = x_t[rows].detach().requires_grad_()
            log_p = self.classifier(x, t[rows]).log_softmax(dim=1)
            (gradient,) = torch.autograd.grad(log_p.gather(1, self.y[rows, None]).sum(), x)
        pull[rows] = self.scale * gradient
        return pull


def _inside(t: Tensor, interval: Interval | None) -> Tensor:
    """The rows with guidance."""
    low, high = interval or (0.0, torch.inf)
    return ((t >= low) & (t <= high)).nonzero()[:, 0]


def check_interval(interval: Interval | None) -> None:
    """Refuse one that goes the wrong way."""
    if interval is not None and not interval[0] <= interval[1]:
        raise ValueError(f"an interval of times goes from the smaller to the larger, got {interval}")
