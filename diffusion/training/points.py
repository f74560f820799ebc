"""Points of the curves of a run. Nothing heavy is imported here: they travel between processes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LossPoint:
    """The training loss over some steps."""

    step: int
    """Updates done."""
    loss: float
    """Mean over the steps since the point before."""
    gradient_norm: float
    """Mean over the same steps, before clipping."""
    learning_rate: float
    """Of the last of them."""


@dataclass(frozen=True)
class BoundPoint:
    """The bound on validation images, in bits/dim, mean over the images."""

    step: int
    """Updates done."""
    L_T: float
    L_t_sum: float
    L_0: float
    total: float


Point = LossPoint | BoundPoint
