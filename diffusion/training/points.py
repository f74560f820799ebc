"""Points of the curves of a run. Nothing heavy is imported here: they travel between processes."""

from dataclasses import dataclass
from typing import Literal


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
    """The bound while training, in bits/dim, with standard errors."""

    source: Literal["running", "validation"]
    """`running`: from the losses since the point before, see `tally`. `validation`: of held-out images."""
    step: int
    """Updates done."""
    L_T: float
    L_t_sum: float
    L_0: float
    L_t_sum_se: float
    L_0_se: float
    total_se: float
    bins: tuple[float, ...]
    """The parts of L_t_sum in bins of equal width in log SNR, from the smallest times to the largest."""

    @property
    def total(self) -> float:
        """The bound."""
        return self.L_T + self.L_t_sum + self.L_0

    def numbers(self) -> dict[str, float]:
        """All of them by name, the bins as L_t_01 and so on."""
        named = {name: float(getattr(self, name)) for name in (*TERMS, "L_t_sum_se", "L_0_se", "total_se")}
        return named | {f"L_t_{k:02d}": value for k, value in enumerate(self.bins, start=1)}


TERMS = ("L_T", "L_t_sum", "L_0", "total")

Point = LossPoint | BoundPoint
