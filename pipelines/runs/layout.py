"""The names in a run's folder.

    step-00000250/              weights.safetensors  ema.safetensors  optimizer.safetensors  state.json  manifest.json
    step-00002000-final/        the end of a finished length: kept for ever

A name serves to find and order folders, whole or not; what a folder is, its manifest says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

STATE = "state.json"
_NAME = re.compile(r"step-(\d{8,})(-final)?")


@dataclass(frozen=True, order=True)
class Folder:
    """Where a checkpoint is or would be; ordered by step, the final one after the other of its step."""

    step: int
    final: bool
    path: Path = field(compare=False)


def folder_of(run: Path, step: int, final: bool) -> Folder:
    """The folder for a checkpoint after `step`."""
    return Folder(step, final, run / f"step-{step:08d}{'-final' if final else ''}")


def folders(run: Path) -> list[Folder]:
    """All that look like checkpoints, newest first. A run without a folder has none."""
    if not run.is_dir():
        return []
    matches = [(path, _NAME.fullmatch(path.name)) for path in run.iterdir()]
    found = [Folder(int(match[1]), match[2] is not None, path) for path, match in matches if match]
    return sorted(found, reverse=True)


def tensor_file(group: str) -> str:
    """The file of one group of tensors."""
    return f"{group}.safetensors"
