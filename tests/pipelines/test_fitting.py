"""A batch that does not fit the memory: torch's allocator really fails here, each time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from diffusion.models import UNet
from pipelines.data.dataset import open_split
from pipelines.errors import PipelineError, TrainingError
from pipelines.measure.bound import Measuring, bound_of_split
from pipelines.measure.drawing import Drawing
from pipelines.measure.first_time import first_times_of_split
from pipelines.measure.fitting import BatchSize, Fitted, Work, fitted, halvings
from pipelines.measure.model import find_model
from pipelines.measure.sampling import draw_samples, read_samples
from pipelines.project import workspace
from pipelines.sections import EvaluateParams
from pipelines.sections_of_sampling import SampleParams
from tests.pipelines.stage_inputs import prepared_digits, saved_model

WORK = Work("sampling", "sample.batch_size", (3, 32, 32), "cpu")
TOO_MUCH = 2**48
"""Bytes: more than a process can address."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("model"), T=6, classes=10)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_digits(tmp_path_factory.mktemp("data") / "prepared")


def room_for(rows: int, most: int) -> Tensor:
    return torch.empty(TOO_MUCH if rows > most else 1, dtype=torch.uint8)


@contextmanager
def most_rows(most: int) -> Iterator[list[int]]:
    """A network call with more rows than these asks the allocator for too much; the rows of those that did not."""
    seen: list[int] = []

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(module, UNet):
            room_for(len(inputs[0]), most)
            seen.append(len(inputs[0]))

    handle = register_module_forward_pre_hook(before)
    try:
        yield seen
    finally:
        handle.remove()


def test_the_largest_half_that_fits() -> None:
    tried: list[int] = []

    def compute(size: int) -> str:
        tried.append(size)
        room_for(size, 3)
        return f"in batches of {size}"

    assert fitted(compute, 20, WORK) == Fitted("in batches of 2", 2)
    assert tried == [20, 10, 5, 2]
    assert fitted(compute, 3, WORK) == Fitted("in batches of 3", None)
    assert list(halvings(1)) == [1]


def test_not_even_one_fits() -> None:
    wanted = (
        r"^sampling does not fit the memory of cpu, not even with batches of a single image of 3x32x32; its peak "
        r"was \d+\.\d GB \(RuntimeError: .*can't allocate memory.*\)\. Begin with a much lower sample\.batch_size "
        r"\(it is 4\), let fewer workers"
    )
    with pytest.raises(PipelineError, match=wanted):
        fitted(lambda size: room_for(size, 0), 4, WORK)


def test_another_error_is_not_tried_again() -> None:
    tried: list[int] = []

    def compute(size: int) -> None:
        tried.append(size)
        raise RuntimeError("the shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        fitted(compute, 4, WORK)
    assert tried == [4]


def test_a_person_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    size = BatchSize("sample.batch_size", 64)
    assert [size.result(Fitted(k, smaller)) for k, smaller in enumerate([None, 16, 8, None, 16])] == [0, 1, 2, 3, 4]
    size.tell()
    assert size.used == 8
    assert capsys.readouterr().err == (
        "sample.batch_size is 64, which did not fit the memory in 3 tasks; 8 did. "
        "Set sample.batch_size to 8 in params.yaml to use it from the start\n"
    )
    BatchSize("sample.batch_size", 64).tell()
    assert capsys.readouterr().err == ""


def test_samples_are_those_of_the_smaller_batch_size(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the bit, with their card and both pictures."""
    folders = {}
    for batch_size, most in ((8, 3), (2, 99)):
        folders[batch_size] = tmp_path / str(batch_size)
        folders[batch_size].mkdir()
        how = SampleParams(count=20, steps=4, batch_size=batch_size)
        with most_rows(most) as seen:
            draw_samples(folders[batch_size], Drawing(find_model(model, "ema"), how, 0))
        assert set(seen) == {2}
    assert read_samples(folders[8]).card.batch_size == 2
    assert sorted(p.name for p in folders[8].iterdir()) == ["grid.png", "samples.json", "samples.npy", "strip.png"]
    for path in folders[8].iterdir():
        assert path.read_bytes() == (folders[2] / path.name).read_bytes(), path.name
    assert capsys.readouterr().err.count("sample.batch_size is 8, which did not fit the memory in 3 tasks; 2 did") == 1


def test_the_bound_is_that_of_the_smaller_batch_size(
    model: Path, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where fewer image-time pairs fit than a task has images; labels stay with their images."""
    split = open_split(prepared, "test")

    def measuring(batch_size: int) -> Measuring:
        return Measuring(find_model(model, "ema"), EvaluateParams(batch_size=batch_size), 0)

    for most, fits in ((35, 32), (5, 4)):
        used = BatchSize("evaluate.batch_size", 64)
        with most_rows(most) as seen:
            bits = bound_of_split(measuring(64), split, 40, batch_size=used)
        assert used.used == fits
        assert max(seen) == fits
        wanted = bound_of_split(measuring(fits), split, 40)
        np.testing.assert_array_equal(bits.total, wanted.total)
        np.testing.assert_allclose(bits.L_t.mean, wanted.L_t.mean, rtol=1e-12)
        np.testing.assert_allclose(bits.total, bound_of_split(measuring(64), split, 40).total, rtol=1e-5)
        assert f"evaluate.batch_size is 64, which did not fit the memory in 2 tasks; {fits} did" in (
            capsys.readouterr().err
        )
    with most_rows(5):
        found = first_times_of_split(measuring(64), split, 10).total
    np.testing.assert_array_equal(found, first_times_of_split(measuring(4), split, 10).total)


def test_a_network_that_fits_no_memory_is_an_error(model: Path, prepared: Path) -> None:
    measuring = Measuring(find_model(model, "ema"), EvaluateParams(), 0)
    with (
        most_rows(0),
        pytest.raises(
            PipelineError, match=r"^the bound does not fit .* 1x8x8; .*evaluate\.batch_size \(it is 128\)"
        ) as e,
    ):
        bound_of_split(measuring, open_split(prepared, "test"), 4)
    assert not isinstance(e.value, TrainingError)


def draw_limited(model: Path, folder: Path, batch: int, room: int) -> str:
    """What the process said, after it has drawn one batch with so many MB to spare."""
    folder.mkdir()
    script = Path(__file__).with_name("limited.py")
    environment = {**os.environ, "PYTHONPATH": str(workspace())}
    command = [sys.executable, "-W", "error", str(script), str(model), str(folder), str(batch), str(room)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the address space is limited as Linux does it")
def test_under_a_real_limit_the_images_are_the_same(model: Path, tmp_path: Path) -> None:
    """The limit lets single tensors fail, of 4 MB and more, and leaves room for all that is small."""
    assert "did not fit" not in draw_limited(model, tmp_path / "free", 4096, 4096)
    assert "sample.batch_size is 4096, which did not fit the memory in 1 task; " in draw_limited(
        model, tmp_path / "limited", 4096, 24
    )
    free, limited = (read_samples(tmp_path / name) for name in ("free", "limited"))
    assert free.card.batch_size == 4096
    assert 4 <= limited.card.batch_size <= 2048
    difference = np.abs(np.array(free.images, int) - limited.images)
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 0.01
