"""Reading checkpoints: the newest one that verifies, and which were skipped and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pipelines.errors import CheckpointError, StoreError
from pipelines.runs.layout import STATE, Folder, folders, tensor_file
from pipelines.runs.manifest import FileEntry, read_file, verify
from pipelines.runs.store import Store
from pipelines.runs.tensor_file import from_bytes


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint, every file of which matched its manifest when it was opened."""

    run: Store
    """Where its run is."""
    name: str
    """Its name in the run."""
    step: int
    """Optimiser steps done."""
    state: dict[str, Any]
    """What was saved beside the tensors: JSON values."""
    final: bool
    """Whether a run of this length ended here."""
    files: Mapping[str, FileEntry]
    """Size and digest of each file, by name."""

    @property
    def place(self) -> str:
        """Where it is, for a person."""
        return self.run.place(self.name)

    def load(self, group: str) -> dict[str, Tensor]:
        """The tensors of one group, for example "weights", on the CPU.

        Raises:
            CheckpointError: there is no such group, or its file was damaged since the checkpoint was opened.
            StoreError: the store does not answer.
        """
        file = tensor_file(group)
        if file not in self.files:
            groups = ", ".join(sorted(Path(file).stem for file in self.files if file != STATE))
            raise CheckpointError(f"{self.place} holds no {group!r}; it has {groups}")
        try:
            return from_bytes(read_file(self.run, self.name, file, self.files[file]))
        except StoreError:
            raise
        except CheckpointError as error:
            raise CheckpointError(f"{self.place}: {error}") from error


@dataclass(frozen=True)
class Skipped:
    """A checkpoint that does not verify."""

    name: str
    """Its name in the run."""
    reason: str
    """Which file, and what is wrong with it."""


def newest_checkpoint(run: Store, at_most: int | None = None) -> tuple[Checkpoint | None, list[Skipped]]:
    """The newest checkpoint that verifies, and the newer ones that do not, newest first.

    Args:
        run: the run's place; one that does not exist has no checkpoints.
        at_most: the largest step that counts.

    Raises:
        StoreError: the store does not answer. That is not taken for damage, or training would start anew.
    """
    skipped: list[Skipped] = []
    for folder in folders(run):
        if at_most is not None and folder.step > at_most:
            continue
        try:
            return open_checkpoint(run, folder), skipped
        except StoreError:
            raise
        except CheckpointError as error:
            skipped.append(Skipped(folder.name, str(error)))
    return None, skipped


def checkpoint_at(run: Store, step: int) -> Checkpoint | None:
    """The checkpoint of exactly this step, the final one if there are two; None if there is none that verifies."""
    for folder in folders(run):
        if folder.step == step and (checkpoint := open_if_whole(run, folder)):
            return checkpoint
    return None


def open_checkpoint(run: Store, folder: Folder) -> Checkpoint:
    """The checkpoint `folder`, after all its files were compared with its manifest.

    Raises:
        CheckpointError: it does not verify; the message leaves the checkpoint to the caller.
        StoreError: the store does not answer.
    """
    manifest = verify(run, folder.name)
    if manifest.facts != {"step": folder.step, "final": folder.final}:
        raise CheckpointError(f"the folder was renamed: its manifest is that of {manifest.facts}")
    state = json.loads(read_file(run, folder.name, STATE, manifest.files[STATE]))
    return Checkpoint(run, folder.name, folder.step, state, folder.final, manifest.files)


def open_if_whole(run: Store, folder: Folder) -> Checkpoint | None:
    """The checkpoint `folder`, or None if it does not verify or there is none.

    Raises:
        StoreError: the store does not answer, so nobody knows.
    """
    try:
        return open_checkpoint(run, folder)
    except StoreError:
        raise
    except CheckpointError:
        return None
