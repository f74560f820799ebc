"""A GPU whose memory is really used up: what a person is told of training, and smaller batches elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffusion.models import UNet
from pipelines.data.dataset import open_split
from pipelines.errors import TrainingError
from pipelines.measure.bound import Measuring, bound_of_split
from pipelines.measure.drawing import Drawing
from pipelines.measure.fitting import BatchSize
from pipelines.measure.model import find_model
from pipelines.measure.sampling import draw_samples, read_samples
from pipelines.sections import EvaluateParams
from pipelines.sections_of_sampling import SampleParams
from tests.distributed.test_out_of_memory import allocate
from tests.gpu.conftest import DEVICE
from tests.pipelines.stage_inputs import saved_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),  # its own, of its own parts
]

MANY = 16384 if DEVICE == "cuda" else 1024
"""Rows: what they take is far more than what a process needs before."""
LEFT = 3 * 2**30
"""Bytes: enough for a worker's CUDA and its network, too few for what the backward pass keeps."""


@contextmanager
def only(left: int) -> Iterator[None]:
    """So much of the GPU's memory is free."""
    if DEVICE == "cpu":
        yield
        return
    torch.cuda.empty_cache()
    taken = torch.empty(max(0, torch.cuda.mem_get_info()[0] - left), dtype=torch.uint8, device=DEVICE)
    try:
        yield
    finally:
        del taken
        torch.cuda.empty_cache()


def test_training_says_what_to_change(lab: Any, fit: Any) -> None:
    """On a real worker; nothing is tried again."""
    rehearsed = {"channels": 2**22} if DEVICE == "cpu" else {"channels": 512}
    job = lab.job(model={**rehearsed, "channel_multipliers": [1, 2], "blocks": 2}, batch_size=1024, val_images=9)
    told = (
        rf"^training worker 0 of 1 \({DEVICE}\) ran out of memory with 256 images of 1x8x8 per forward pass; its "
        r"peak was \d+\.\d .*memory.*Set train\.microbatch to 128 or less \(it is null\)"
    )
    with only(LEFT), pytest.raises(TrainingError, match=told) as caught:
        fit(job, 1, max_failures=50)
    if DEVICE == "cuda":
        assert "CUDA out of memory" in str(caught.value)
        assert "of the GPU's" in str(caught.value)


@contextmanager
def too_little_for(compute: Callable[[], object]) -> Iterator[None]:
    """Six tenths of the memory that this takes, for the allocator of this process; it fails as on a smaller GPU."""
    if DEVICE == "cpu":
        with too_many_rows():
            yield
        return
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    compute()
    most = torch.cuda.max_memory_reserved()
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((before + 0.6 * (most - before)) / whole)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@contextmanager
def too_many_rows() -> Iterator[None]:
    """The rehearsal: a call of the network with more than half of the rows fails."""

    def before(module: torch.nn.Module, inputs: Any) -> None:
        if isinstance(module, UNet) and len(inputs[0]) > MANY // 2:
            allocate()

    handle = torch.nn.modules.module.register_module_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()


def test_sampling_halves_its_batch_and_goes_on(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = SampleParams(count=MANY, steps=3, batch_size=MANY, variance="learned")
    drawing = Drawing(find_model(model, "ema", DEVICE), how, 0)
    for name in ("roomy", "tight"):
        (tmp_path / name).mkdir()
    with too_little_for(lambda: draw_samples(tmp_path / "roomy", drawing)):
        draw_samples(tmp_path / "tight", drawing)
    said = capsys.readouterr().err
    if DEVICE == "cpu":
        draw_samples(tmp_path / "roomy", drawing)
    roomy, tight = (read_samples(tmp_path / name) for name in ("roomy", "tight"))
    assert roomy.card.batch_size == MANY
    assert tight.card.batch_size in {MANY // 2, MANY // 4, MANY // 8}
    assert f"sample.batch_size is {MANY}, which did not fit the memory in 1 task; {tight.card.batch_size} did" in said
    apart = np.abs(roomy.images.astype(int) - tight.images.astype(int))
    assert apart.max() <= 1
    assert (apart > 0).mean() < 1e-3


def test_the_bound_halves_its_batch_and_goes_on(lab: Any, tmp_path: Path) -> None:
    """A task's 32 images fill the rows with 600 times."""
    long = saved_model(tmp_path / "model", T=600, learned_variance=True)
    how = EvaluateParams(images=32, batch_size=MANY, variance="learned", decoder="normalized_levels")
    measuring, split = Measuring(find_model(long, "ema", DEVICE), how, 0), open_split(lab.prepared, "test")
    wanted, size = list[Any](), BatchSize("evaluate.batch_size", MANY)

    def roomy() -> None:
        wanted.append(bound_of_split(measuring, split, 32))

    with too_little_for(roomy):
        found = bound_of_split(measuring, split, 32, batch_size=size)
    if DEVICE == "cpu":
        roomy()
    assert size.used in {MANY // 2, MANY // 4, MANY // 8}
    np.testing.assert_allclose(found.total, wanted[0].total, rtol=1e-5)
