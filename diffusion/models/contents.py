"""The tensors of a model file: their names, and what they must be to fit a network.

ema.NAME, raw.NAME         for each NAME of the network's state_dict: the average and the weights themselves
schedule.log_alpha_bar     (T + 1,) float64
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from diffusion.models.architecture import Architecture
from diffusion.models.unet import UNet

SCHEDULE = "schedule.log_alpha_bar"

Shapes = dict[str, tuple[int, ...]]


def contents(ema: Mapping[str, Tensor], raw: Mapping[str, Tensor], log_alpha_bar: Tensor) -> dict[str, Tensor]:
    """All tensors of the file, copied to the CPU in row-major order (safetensors refuses any that share memory)."""
    named = {f"ema.{name}": value for name, value in ema.items()} | {
        f"raw.{name}": value for name, value in raw.items()
    }
    return plain(named | {SCHEDULE: log_alpha_bar})


def plain(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU in row-major order."""
    return {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in named.items()
    }


def empty_network(architecture: Architecture) -> UNet:
    """The network without storage, so that no random numbers are drawn for weights that come from a file."""
    with torch.device("meta"):
        return UNet(**architecture.to_json())


def shapes_of(tensors: Mapping[str, Tensor]) -> Shapes:
    """Of tensors by name."""
    return {name: tuple(value.shape) for name, value in tensors.items()}


def shapes_of_model(architecture: Architecture, T: int) -> Shapes:
    """Of a file with this network and a process of T steps."""
    network = shapes_of(empty_network(architecture).state_dict())
    return {f"{prefix}.{n}": shape for prefix in ("ema", "raw") for n, shape in network.items()} | {SCHEDULE: (T + 1,)}


def check_shapes(wanted: Shapes, got: Shapes, where: str) -> None:
    """Refuse tensors whose names or shapes are not those that are wanted.

    Raises:
        ValueError: says what is missing, unknown or misshapen in `where`.
    """
    problems = [f"{name} is missing" for name in sorted(wanted.keys() - got.keys())]
    problems += [f"{name} is unknown" for name in sorted(got.keys() - wanted.keys())]
    problems += [f"{n} has shape {got[n]}, wanted {s}" for n, s in wanted.items() if n in got and got[n] != s]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise ValueError(
            f"{where}: the tensors do not fit the architecture: {'; '.join(problems[:3])}{more}. "
            "Weights, schedule and architecture must come from one model"
        )


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Refuse NaN and infinity.

    Raises:
        ValueError: names the first such tensor.
    """
    bad = [name for name, value in tensors.items() if not bool(value.isfinite().all())]
    if bad:
        raise ValueError(f"{len(bad)} tensors are not finite, {bad[0]} first: go back to a checkpoint before they were")
