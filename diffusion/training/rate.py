"""The learning rate at a step."""

from dataclasses import dataclass
from math import cos, pi


@dataclass(frozen=True)
class LearningRate:
    """Linear warm-up from zero, then constant, or a half cosine that reaches zero when the last step is done."""

    peak: float
    """The rate after warm-up."""
    warmup_steps: int = 0
    decay_to: int | None = None
    """The number of steps after which a decaying rate is zero; None: constant."""

    def __call__(self, step: int) -> float:
        """The rate of the update that is counted `step`, from 0: peak / warmup_steps at the first."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        if self.decay_to is None:
            return self.peak
        done = (step - self.warmup_steps) / max(self.decay_to - self.warmup_steps, 1)
        return self.peak * (1 + cos(pi * min(done, 1.0))) / 2
