"""Training that runs out of memory: which errors say so, what a person is told, and that it is not tried again."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipelines.cluster.attempt import death
from pipelines.cluster.job import Place
from pipelines.cluster.out_of_memory import explain, is_out_of_memory, perhaps_killed_for_memory
from pipelines.cluster.trainer import train
from pipelines.errors import TrainingError
from pipelines.settings import RaySettings, Settings

TOO_MUCH = 2**48
"""Bytes: more than a process can address."""


def error_of(act: Callable[[], object]) -> Exception:
    try:
        act()
    except Exception as error:
        return error
    raise AssertionError("there was no error")


def allocate() -> Tensor:
    return torch.empty(TOO_MUCH, dtype=torch.uint8)


@pytest.mark.parametrize("act", [allocate, lambda: np.empty(TOO_MUCH, np.uint8), lambda: bytearray(TOO_MUCH)])
def test_memory_that_the_cpu_really_has_not(act: Callable[[], object]) -> None:
    assert is_out_of_memory(error_of(act))


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_of_devices_that_are_not_here(error: Exception, memory: bool) -> None:
    assert is_out_of_memory(error) == memory


@pytest.mark.parametrize(
    ("changes", "workers", "images", "remedy"),
    [
        ({}, 2, 4, "Set train.microbatch to 2 or less (it is null)"),
        ({"microbatch": 2}, 2, 2, "Set train.microbatch to 1 or less (it is 2)"),
        ({"reduction": "fast"}, 2, 8, "Set train.microbatch to 4 or less (it is null)"),
        ({"reduction": "fast"}, 3, 8, "Set train.microbatch to 4 or less (it is null)"),  # of 1, 1 and 2 shards
        ({"microbatch": 1}, 1, 1, "Lower model.channels, which is another run"),
    ],
)
def test_what_a_person_is_told(lab: Any, changes: dict[str, Any], workers: int, images: int, remedy: str) -> None:
    """The run has 4 shards of 4 images."""
    place = Place(workers - 1, workers, torch.device("cpu"))
    said = explain(lab.job(**changes), place, error_of(allocate))
    assert (
        f"training worker {workers - 1} of {workers} (cpu) ran out of memory with {images} images of 1x8x8 per forward"
        in said
    )
    assert "; its peak was " in said
    assert "can't allocate memory" in said
    assert remedy in said
    assert ("another run, from its start" in said) == (images > 1)


class Greedy(nn.Module):
    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return allocate()


def test_the_validation_bound_is_no_matter_of_the_microbatch(lab: Any) -> None:
    loop = lab.loop(lab.job())
    said = explain(loop._job, loop._place, error_of(lambda: loop._validation(Greedy(), {}, 0)))
    assert "while it measured the validation bound" in said
    assert "microbatch" not in said


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")  # its own, of its own parts
def test_it_is_told_and_not_tried_again(lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that no machine has the address space for, on two real workers, which Ray would replace 50 times."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    job = lab.job(model={"channels": 2**22})
    settings = Settings(ray=RaySettings(workers=2, cpus_per_worker=0.5, max_failures=50))
    began = time.monotonic()
    with pytest.raises(
        TrainingError, match=r"^training worker \d of 2 \(cpu\) ran out of memory with 4 images of 1x8x8"
    ):
        train(job, settings, lambda event: None)
    assert time.monotonic() - began < 100


def test_a_worker_that_was_killed_may_have_lacked_memory() -> None:
    """Ray's own words, of version 2.60, for one that the kernel may have killed."""
    words = "The actor died unexpectedly. Some common causes include: (1) the process was killed by the OOM killer"
    for text, memory in ((words, True), ("division by zero", False)):
        assert perhaps_killed_for_memory(text) == memory
        assert ("out of memory" in death(RuntimeError(text))) == memory
    assert death(RuntimeError("The actor died because its node has died.")) == "its machine is gone"
