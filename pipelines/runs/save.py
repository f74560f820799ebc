"""Saving a checkpoint: refused, committed, or as if it had never been tried."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from torch import Tensor

from pipelines.errors import CheckpointError
from pipelines.runs.canonical import canonical_json
from pipelines.runs.digest import sha256_hex
from pipelines.runs.layout import STATE, folder_of, tensor_file
from pipelines.runs.read import Checkpoint, open_if_whole
from pipelines.runs.store import Store
from pipelines.runs.tensor_file import refuse_non_finite, size, to_bytes

Groups = Mapping[str, Mapping[str, Tensor]]
"""Named tensors by group; one file per group."""

_GROUP = re.compile(r"[a-z][a-z0-9_]*")
_MARGIN = 1 << 20
"""Bytes beside the tensors and the state: headers, the manifest, the file system's blocks."""


def save_checkpoint(run: Store, step: int, tensors: Groups, state: dict[str, Any], final: bool = False) -> str:
    """Commit the state after `step` to the run, and return the checkpoint's name in it.

    Where this step is saved already with the same tensors, that one stays and is returned.

    Args:
        run: the run's place, made if need be.
        step: optimiser steps done.
        tensors: for example {"weights": .., "ema": .., "optimizer": ..}, each a mapping from names to tensors.
        state: JSON values.
        final: this is the end of a finished length, to be kept for ever.

    Raises:
        CheckpointError: a tensor or a value in `state` is not finite, the disk is too full, the server does not answer,
            or this step is saved already with other tensors. Whatever was committed before is as it was.
        RunLocked: this process held the run and has lost it, so that it must not write any more.
    """
    _check_names(step, tensors)
    for group, named in tensors.items():
        refuse_non_finite(group, named)
    content = _encode(state)
    folder = folder_of(step, final)
    if saved := open_if_whole(run, folder):
        _refuse_other_tensors(saved, tensors)
        return folder.name
    run.begin(folder.name)
    _need_space(run, len(content) + sum(size(named) for named in tensors.values()))
    run.commit(folder.name, chain(_files(tensors), [(STATE, content)]), {"step": step, "final": final})
    return folder.name


def _files(tensors: Groups) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the tensor files, made one at a time."""
    return ((tensor_file(group), to_bytes(named)) for group, named in tensors.items())


def _refuse_other_tensors(saved: Checkpoint, tensors: Groups) -> None:
    """The state may differ, since it can tell of times and restarts; the tensors may not."""
    there = {name: entry.sha256 for name, entry in saved.files.items() if name != STATE}
    here = {name: sha256_hex(content) for name, content in _files(tensors)}
    if here != there:
        differing = ", ".join(sorted(name for name in {*here, *there} if here.get(name) != there.get(name)))
        raise CheckpointError(
            f"{saved.place} is saved already and differs from the state to be saved in {differing}. It is left as it "
            "is: run the stage again to go on from it, or delete that folder first to go on from the one before"
        )


def _encode(state: dict[str, Any]) -> bytes:
    try:
        return canonical_json(state).encode()
    except ValueError as error:
        raise CheckpointError(f"the checkpoint's state cannot be saved: {error}") from None


def _check_names(step: int, tensors: Groups) -> None:
    if step < 0:
        raise ValueError(f"step must not be negative, got {step}")
    for group in tensors:
        if not _GROUP.fullmatch(group):
            raise ValueError(
                f"a group's name becomes a file name: wanted lower-case letters, digits and _, got {group!r}"
            )


def _need_space(run: Store, wanted: int) -> None:
    free = run.free()
    if free is not None and free < wanted + _MARGIN:
        raise CheckpointError(
            f"a checkpoint needs {(wanted + _MARGIN) / 1e6:.0f} MB in {run}, and {free / 1e6:.0f} MB are free. Earlier "
            "checkpoints are as they were; make room, then run the stage again to go on from the newest"
        )
