"""What a person and the tracker see of a training that runs elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol

from diffusion.training.points import LossPoint, Point
from pipelines.cluster.events import Advanced, Busy, Event, Measured, NotSaved, Saved, Started, Stopped, Told, Unusual

if TYPE_CHECKING:
    from pipelines.cluster.gauges import Gauges
    from pipelines.report.progress import Bar


class Tracker(Protocol):
    """Takes each number once per name and step, also where it is told again."""

    def metrics(self, step: int, values: dict[str, float]) -> None: ...

    def tags(self, tags: dict[str, str]) -> None: ...

    def machine(self, node: int, values: dict[str, float]) -> None: ...


class Watch:
    """Hears the events of a training: draws its bar, says where it goes on from, passes the curves on."""

    def __init__(self, steps: int, tracker: Tracker, gauges: Gauges, stack: ExitStack) -> None:
        self._steps = steps
        self._tracker = tracker
        self._gauges = gauges
        self._stack = stack
        self._bar: Bar | None = None
        self._hardware: dict[int, str] = {}
        self._paced: tuple[int, float] | None = None

    def hear(self, event: Event) -> None:
        """Show an event."""
        match event:
            case Started():
                self._started(event)
            case Advanced(step):
                self._advanced(step)
            case Measured(point):
                self._measured(point)
            case Busy():
                self._busy(event)
            case NotSaved() | Unusual() | Told():
                print(line_of(event), file=sys.stderr, flush=True)
            case Saved() | Stopped():
                pass  # the first is routine; of the second the end of the stage tells

    def _started(self, event: Started) -> None:
        for line in start_lines(event, again=self._bar is not None):
            print(line, file=sys.stderr, flush=True)
        if self._bar is None:
            from pipelines.report.progress import progress

            self._bar = self._stack.enter_context(progress("training", self._steps, "step", start=event.step))
        self._bar.update(event.step)
        for point in event.points:
            self._tracker.metrics(point.step, metrics_of(point))
        self._gauges.started(event.step)

        self._tracker.tags({"workers": str(event.workers), f"workers.from_step_{event.step}": str(event.workers)})

    def _busy(self, event: Busy) -> None:
        if self._hardware.get(event.node) != event.hardware:
            self._hardware[event.node] = event.hardware
            self._tracker.tags({f"hardware.node_{event.node}": event.hardware})
        self._tracker.machine(event.node, event.values)

    def _advanced(self, step: int) -> None:
        if self._bar:
            self._bar.update(step)
        self._gauges.advanced(step)

    def _measured(self, point: Point) -> None:
        self._tracker.metrics(point.step, metrics_of(point))
        if self._bar:
            if isinstance(point, LossPoint):
                self._pace(point.step)
                self._bar.update(point.step, loss=point.loss)
            elif point.source == "validation":
                self._bar.update(point.step, bits_per_dim=point.total)
        self._gauges.measured(point)

    def _pace(self, step: int) -> None:
        """Steps per second since the last point of the loss."""
        now = time.monotonic()
        if self._paced and step > self._paced[0]:
            since, at = self._paced
            self._tracker.metrics(step, {"steps_per_second": (step - since) / (now - at)})
        self._paced = (step, now)


@contextmanager
def watching(steps: int, tracker: Tracker, gauges: Gauges) -> Iterator[Watch]:
    """A watch whose bar ends with the block."""
    with ExitStack() as stack:
        yield Watch(steps, tracker, gauges, stack)


def start_lines(event: Started, *, again: bool) -> list[str]:
    """What a person is told when the workers begin."""
    workers = f"{event.workers} worker{'s' if event.workers > 1 else ''} ({event.device})"
    if again:
        first = f"{workers} go on from step {event.step}"
    elif event.step:
        first = f"resumed from the checkpoint of step {event.step} on {workers}"
    else:
        first = f"training from the start on {workers}"
    return [first, *(f"skipped a damaged checkpoint: {each}" for each in event.skipped), *event.notes]


def line_of(event: NotSaved | Unusual | Told) -> str:
    """What a person is told between two steps."""
    match event:
        case NotSaved(step, reason):
            return f"warning: no checkpoint of step {step}, training goes on (checkpoint.on_error): {reason}"
        case Unusual(step, "not finite", _, _, file):
            return f"warning: the loss or gradient of step {step} is not finite, its update is left out: {file}"
        case Unusual(step, _, loss, usual, file):
            return f"warning: the loss of step {step} is {loss:.3g}, usual are {usual:.3g}: {file}"
        case Told(line):
            return line


def metrics_of(point: Point) -> dict[str, float]:
    """The numbers of a point by the names under which they are tracked: `loss`, `bound/total`, `bound_running/L_t_07`.

    `bound/` is the estimate on validation images with the average of the weights; `bound_running/` what the losses say.
    """
    if isinstance(point, LossPoint):
        return {name: value for name, value in asdict(point).items() if name != "step"}
    prefix = "bound" if point.source == "validation" else "bound_running"
    return {f"{prefix}/{name}": value for name, value in point.numbers().items()}
