"""What is told of a training, in the order in which it happens: by worker 0, and by the driver of the workers' fate."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from diffusion.training.points import Point
from pipelines.errors import first_line


@dataclass(frozen=True)
class Started:
    """The workers are there and training goes on from somewhere. Comes again after each restart of the workers."""

    step: int
    """Updates done; 0 for a new run."""
    workers: int
    device: str
    """Kind of device, as in the run's record."""
    skipped: tuple[str, ...]
    """Checkpoints that do not verify, each with its reason."""
    notes: tuple[str, ...]
    """What a person should know, in a line each."""
    points: tuple[Point, ...]
    """Both curves up to here."""


@dataclass(frozen=True)
class Advanced:
    """Another step is done."""

    step: int


@dataclass(frozen=True)
class Measured:
    """A new point of one of the two curves."""

    point: Point


@dataclass(frozen=True)
class Saved:
    """A checkpoint is committed."""

    step: int


@dataclass(frozen=True)
class NotSaved:
    """A checkpoint could not be saved, and training goes on without it, as configured."""

    step: int
    reason: str


@dataclass(frozen=True)
class Unusual:
    """A step whose images are worth a look."""

    step: int
    """Number of the update, from 1."""
    kind: Literal["not finite", "spike"]
    """`not finite`: its update was left out. `spike`: its loss is far above the curve's last points."""
    loss: float
    usual: float
    """Median of the curve's last points; NaN where there are none."""
    file: str
    """Where the images are listed, each with its time and loss; or why they are not."""


@dataclass(frozen=True)
class Stopped:
    """All workers stopped after the same step, as they were asked to, and its state is saved."""

    step: int
    preempted: bool
    """Because a worker's machine is about to be taken away; else because the driver asked for it."""


@dataclass(frozen=True)
class Busy:
    """How busy a machine is on which workers train."""

    node: int
    """0 .. nodes - 1 of this attempt."""
    hardware: str
    """Its kind."""
    values: dict[str, float]
    """By name, see `pipelines/tracking/machine.py`."""


@dataclass(frozen=True)
class Told:
    """What the driver says of the workers, or worker 0 of what it passes over."""

    line: str


Event = Started | Advanced | Measured | Saved | NotSaved | Unusual | Stopped | Busy | Told

Tell = Callable[[Event], None]
"""Passes on what happens, without waiting."""


class Undisturbed:
    """Passes on to a hearer whose errors must hold nobody up: the first is printed, and whoever tells goes on.

    What the hearer has missed of the curves is in the run's history, from which the stage tells them again at its end.
    """

    def __init__(self, hear: Tell) -> None:
        self._hear = hear
        self._failed = False

    def __call__(self, event: Event) -> None:
        try:
            self._hear(event)
        except Exception as error:
            if not self._failed:
                self._failed = True
                with suppress(OSError):  # nobody reads it any more
                    line = f"warning: training goes on, but not all of it can be shown or tracked: {first_line(error)}"
                    print(line, file=sys.stderr, flush=True)
