"""Checkpoints while training goes on: a step waits only until the state is copied to the host's memory."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from pipelines.cluster.events import Event, NotSaved, Saved, Tell, Told
from pipelines.cluster.job import Job
from pipelines.errors import CheckpointError
from pipelines.runs.checkpoint import prune, save_checkpoint

Groups = Mapping[str, Mapping[str, Tensor]]


class Saver:
    """Of the worker that saves. One checkpoint is under way at a time: the next one waits for it."""

    def __init__(self, job: Job, tell: Tell) -> None:
        self._job = job
        self._tell = tell
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._under_way: Future[list[Event]] | None = None
        self._memory: dict[str, dict[str, Tensor]] = {}

    def start(self, step: int, groups: Groups, state: dict[str, Any]) -> None:
        """Copy the state after `step`, and save the copy while training goes on.

        Raises:
            CheckpointError: the one before could not be saved, and training stops for that.
        """
        self.wait()
        self._memory = _copied(groups, self._memory)
        self._under_way = self._thread.submit(self._save, step, self._memory, state, self._job.continue_unsaved)

    def now(self, step: int, groups: Groups, state: dict[str, Any], *, final: bool) -> None:
        """Save and wait for it: the last state is worth an error, whatever is configured for the others.

        Raises:
            CheckpointError: it could not be saved.
        """
        self.wait()
        self._tell_all(self._save(step, groups, state, False, final=final))

    def look(self) -> None:
        """Tell of a checkpoint that is done by now.

        Raises:
            CheckpointError: it could not be saved, and training stops for that.
        """
        if self._under_way and self._under_way.done():
            self.wait()

    def wait(self) -> None:
        """Wait for the one under way, and tell of it.

        Raises:
            CheckpointError: it could not be saved, and training stops for that.
        """
        if under_way := self._under_way:
            self._under_way = None
            self._tell_all(under_way.result())

    def close(self) -> None:
        """End the thread, after the checkpoint under way."""
        self._thread.shutdown()

    def _tell_all(self, events: list[Event]) -> None:
        for event in events:
            self._tell(event)

    def _save(self, step: int, groups: Groups, state: dict[str, Any], go_on: bool, final: bool = False) -> list[Event]:
        try:
            save_checkpoint(self._job.run, step, groups, state, final=final)
        except CheckpointError as error:
            if not go_on:
                raise
            return [NotSaved(step, str(error))]
        return [Saved(step), *self._prune()]

    def _prune(self) -> list[Event]:
        """Remove old ones. What cannot be removed now costs room and nothing else, and the next save tries it again."""
        try:
            prune(self._job.run, self._job.keep)
        except CheckpointError as error:
            return [Told(f"warning: old checkpoints could not be removed: {error}")]
        return []


def _copied(groups: Groups, memory: dict[str, dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """The tensors on the host, in the memory of the last copy where they fit: new memory costs more than the copy."""
    return {
        group: {name: _copy(tensor, memory.get(group, {}).get(name)) for name, tensor in named.items()}
        for group, named in groups.items()
    }


@torch.no_grad()
def _copy(tensor: Tensor, there: Tensor | None) -> Tensor:
    if there is None or there.shape != tensor.shape or there.dtype != tensor.dtype:
        return tensor.detach().to("cpu", copy=True)
    return there.copy_(tensor)
