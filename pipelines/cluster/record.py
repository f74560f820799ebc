"""What a checkpoint says of its run beside the tensors: its state.json."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import CheckpointError

if TYPE_CHECKING:
    import torch

    from diffusion.training.points import BoundPoint


@dataclass(frozen=True)
class Platform:
    """Where steps were made. Bits are promised within one platform."""

    first_step: int
    """The first step made there, counted from 0."""
    torch: str
    """Version."""
    numpy: str
    """Version: its generators draw the numbers on a CPU."""
    device: str
    """Kind of device."""

    @property
    def kind(self) -> tuple[str, str, str]:
        """What must not change for the bits to stay the same."""
        return self.torch, self.numpy, self.device

    def __str__(self) -> str:
        return f"torch {self.torch} and numpy {self.numpy} on {self.device}"


@dataclass(frozen=True)
class Record:
    """The facts of a run."""

    key: str
    data: str
    """Digest of the prepared data."""
    shape: tuple[int, ...]
    """(C, H, W) of an image."""
    T: int
    virtual_shards: int
    reduction: str
    platforms: tuple[Platform, ...]
    """In order; more than one where torch or the device changed on the way."""
    resumed_from: tuple[int, ...] = ()
    """The steps from which training went on after an interruption or a longer length."""

    def resumed(self, step: int, platform: Platform) -> Record:
        """The record of the run that goes on after `step` updates, on `platform`."""
        same = platform.kind == self.platforms[-1].kind
        platforms = self.platforms if same else (*self.platforms, replace(platform, first_step=step))
        return replace(self, platforms=platforms, resumed_from=(*self.resumed_from, step))

    def check_same_run(self, kept: Record) -> None:
        """Refuse to go on from another run's checkpoint.

        Raises:
            CheckpointError: naming the first fact that differs.
        """
        for fact in ("T", "shape", "virtual_shards", "reduction", "data", "key"):
            here, there = getattr(self, fact), getattr(kept, fact)
            if here != there:
                raise CheckpointError(
                    f"the checkpoint belongs to another run: its {fact} is {there}, this run's is {here}. "
                    "Move its folder away, or go back to the parameters it was made with"
                )

    def to_state(self, step: int, batch_size: int, final_bound: BoundPoint | None) -> dict[str, Any]:
        """As JSON values, with what is only of interest to people, and the bound at the end of a finished length."""
        return {
            **asdict(self),
            "step": step,
            "samples_seen": step * batch_size,
            "final_bound": None if final_bound is None else asdict(final_bound),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Record:
        """From a checkpoint's state.

        Raises:
            CheckpointError: it is not one of training.
        """
        try:
            return cls(
                key=state["key"],
                data=state["data"],
                shape=tuple(state["shape"]),
                T=state["T"],
                virtual_shards=state["virtual_shards"],
                reduction=state["reduction"],
                platforms=tuple(Platform(**platform) for platform in state["platforms"]),
                resumed_from=tuple(state["resumed_from"]),
            )
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"the checkpoint's state.json lacks what training needs: {error}") from None


def platform_of(device: torch.device) -> Platform:
    """This process's platform. The model of a CPU counts: kernels are chosen by its instructions and its caches."""
    import numpy
    import torch

    if device.type == "cuda":
        kind = torch.cuda.get_device_name(device)
    else:
        kind = f"{device.type} {torch.backends.cpu.get_cpu_capability()} {_cpu_model()}"
    return Platform(0, torch.__version__, numpy.__version__, kind)


def hardware_of(device: str) -> str:
    """What computes on `cpu` or `cuda`, for a person: the GPU's name is that of this machine, if it has one."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        return "a GPU of the cluster"
    return platform_of(torch.device(device)).device


def _cpu_model() -> str:
    """As the system names it, with family and model: the names of virtual machines say little."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return f"{fields.get('model name', platform.machine())} {fields.get('cpu family', '')}/{fields.get('model', '')}"
