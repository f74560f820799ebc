"""The names in a run's place.

    step-00000250/              weights.safetensors  ema.safetensors  optimizer.safetensors  state.json  manifest.json
    step-00002000-final/        the end of a finished length: kept for ever

A name serves to find and order checkpoints, whole or not; what a checkpoint is, its manifest says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pipelines.runs.store import Store

STATE = "state.json"
_NAME = re.compile(r"step-(\d{8,})(-final)?")


@dataclass(frozen=True, order=True)
class Folder:
    """What a checkpoint is named by; ordered by step, the final one after the other of its step."""

    step: int
    final: bool
    name: str = field(compare=False)


def folder_of(step: int, final: bool) -> Folder:
    """The name for a checkpoint after `step`."""
    return Folder(step, final, f"step-{step:08d}{'-final' if final else ''}")


def folder_named(name: str) -> Folder | None:
    """What `name` stands for; None if it is not the name of a checkpoint."""
    match = _NAME.fullmatch(name)
    return Folder(int(match[1]), match[2] is not None, name) if match else None


def folders(run: Store) -> list[Folder]:
    """All that look like checkpoints, newest first. A run that is not there yet has none."""
    return sorted(filter(None, map(folder_named, run.names())), reverse=True)


def tensor_file(group: str) -> str:
    """The file of one group of tensors."""
    return f"{group}.safetensors"
