"""Copies of tensors: named ones, which refuse to guess, and to a device, without a wait."""

from collections.abc import Mapping

import torch
from torch import Tensor


@torch.no_grad()
def copy_into(targets: Mapping[str, Tensor], sources: Mapping[str, Tensor], what: str) -> None:
    """Copy each source into the target of its name, bit for bit, across devices if need be.

    Raises:
        ValueError: a name is missing or too many, or a shape or type differs; `what` begins the message.
    """
    if wrong := sorted(targets.keys() ^ sources.keys()):
        side = "lacks" if wrong[0] in targets else "has an unknown"
        raise ValueError(f"{what} {side} tensor {wrong[0]!r} ({len(wrong)} names differ): another network's state?")
    for name, target in targets.items():
        source = sources[name]
        if (source.shape, source.dtype) != (target.shape, target.dtype):
            raise ValueError(
                f"{what}: tensor {name!r} is {source.dtype} {tuple(source.shape)}, "
                f"wanted {target.dtype} {tuple(target.shape)}: another network's state?"
            )
        target.copy_(source)


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of the host there; a GPU takes it from page-locked memory, so that the host need not wait."""
    if torch.device(device).type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
