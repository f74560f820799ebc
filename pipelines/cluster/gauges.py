"""The newest numbers of a training as Prometheus metrics, which Ray exports beside its own.

Ray puts `ray_` before the names and serves them at the metrics port of the driver's machine. A driver outside the
cluster (`ray://`) is no part of it: its numbers are exported nowhere, and are in MLflow all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from diffusion.training.points import LossPoint, Point

if TYPE_CHECKING:
    from ray.util.metrics import Gauge

METRICS = {
    "diffusion_step": "Updates done.",
    "diffusion_images_per_second": "Training images per second, of all workers together.",
    "diffusion_loss": "Mean training loss since the point before.",
    "diffusion_gradient_norm": "Mean norm of the gradient since the point before, before clipping.",
    "diffusion_bound_bits_per_dim": "The bound; source: validation (average of the weights) or running (the losses).",
}
_SPAN_S = 5.0


class Gauges:
    """Sets the metrics of one run, by its key.

    Args:
        run: the run's key, a label of each metric.
        batch_size: images per step.
        clock: seconds, of any start.
    """

    def __init__(self, run: str, batch_size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._run = run
        self._batch_size = batch_size
        self._clock = clock
        self._gauges: dict[str, Gauge] = {}
        self._since = (0, 0.0)

    def started(self, step: int) -> None:
        """Training goes on from a step: within a session of Ray, which may be another one than before."""
        from ray.util.metrics import Gauge

        self._gauges = {name: Gauge(name, text, tag_keys=("run", "source")) for name, text in METRICS.items()}
        self._since = (step, self._clock())
        self._set("diffusion_step", step)

    def advanced(self, step: int) -> None:
        """A step is done; the rate is that of the last seconds."""
        if not self._gauges:
            return
        self._set("diffusion_step", step)
        since, then = self._since
        if (seconds := self._clock() - then) >= _SPAN_S:
            self._set("diffusion_images_per_second", (step - since) * self._batch_size / seconds)
            self._since = (step, self._clock())

    def measured(self, point: Point) -> None:
        """A new point of one of the curves."""
        if not self._gauges:
            return
        if isinstance(point, LossPoint):
            self._set("diffusion_loss", point.loss)
            self._set("diffusion_gradient_norm", point.gradient_norm)
        else:
            self._set("diffusion_bound_bits_per_dim", point.total, point.source)

    def _set(self, name: str, value: float, source: str = "") -> None:
        self._gauges[name].set(value, tags={"run": self._run, "source": source})
