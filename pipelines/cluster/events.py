"""What worker 0 tells of a training, in the order in which it happens."""

from __future__ import annotations

from dataclasses import dataclass

from diffusion.training.points import Point


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


Event = Started | Advanced | Measured
