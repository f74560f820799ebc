"""What a training worker is told, and where it stands among the others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.params import Params
from pipelines.runs.store import Store

if TYPE_CHECKING:
    import torch

    from pipelines.depot.shared import SharedFolder


@dataclass(frozen=True)
class Job:
    """A run to be trained to its length. The same for all workers; sent to them by Ray."""

    params: Params
    prepared: Path
    """The folder of the prepared images on this machine."""
    run: Store
    """The run's place with its checkpoints; all workers see it."""
    key: str
    """The run's key."""
    every_steps: int
    """Steps between checkpoints."""
    keep: int
    """Checkpoints to keep besides final ones."""
    continue_unsaved: bool = False
    """Whether training goes on where a checkpoint cannot be saved, all but the last one."""
    loaders: int = 0
    """Processes of each worker that make its images and noise ahead; 0: it makes them itself."""
    loader_patience_s: float = 60
    """How long a worker waits for one shard from them."""
    images: SharedFolder | None = None
    """The prepared images as the workers have them; None: all of them see the folder."""

    def here(self) -> Job:
        """The job for a worker on this machine, with the images where they are here.

        Raises:
            DataError, StoreError: they cannot be had.
        """
        return replace(self, prepared=self.images.here()) if self.images else self


@dataclass(frozen=True)
class Place:
    """Where a worker stands."""

    rank: int
    """0 .. workers - 1; 0 speaks and saves."""
    workers: int
    device: torch.device
