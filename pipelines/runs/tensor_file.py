"""Named tensors as the bytes of a safetensors file, and back. No pickle; equal tensors give equal bytes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors.torch import load, save
from torch import Tensor

from pipelines.errors import CheckpointError

_NAMED = 3
"""How many bad tensors a message names."""


def to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """A safetensors file without metadata entries: two or more would make the bytes differ from save to save.

    Tensors that share memory, as tied weights do, are written once per name.
    """
    plain: dict[str, Tensor] = {}
    written: set[int] = set()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        memory = tensor.untyped_storage().data_ptr()
        plain[name] = tensor.clone() if memory in written else tensor
        written.add(memory)
    content: bytes = save(plain)
    return content


def from_bytes(content: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU."""
    tensors: dict[str, Tensor] = load(content)
    return tensors


def size(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of the tensors' values."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def refuse_non_finite(group: str, tensors: Mapping[str, Tensor]) -> None:
    """Refuse what training could not go on from.

    Raises:
        CheckpointError: a tensor holds NaN or infinity; the first ones are named, with how many of their values.
    """
    counts = {name: _non_finite(tensor) for name, tensor in tensors.items()}
    bad = [f"{name} ({count} of {tensors[name].numel()} values)" for name, count in counts.items() if count]
    if bad:
        more = f" and {len(bad) - _NAMED} more tensors" if len(bad) > _NAMED else ""
        raise CheckpointError(
            f"{group} holds values that are not finite, so this state is not saved: {', '.join(bad[:_NAMED])}{more}. "
            "Earlier checkpoints are as they were; a lower learning rate or gradient clipping may help"
        )


def _non_finite(tensor: Tensor) -> int:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return 0
    return int(tensor.numel() - torch.isfinite(tensor).sum())
