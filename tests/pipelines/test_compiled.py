"""A compiled network draws the same images up to the rounding of its kernels, whatever the size of the batch."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffusion.models import UNet
from pipelines.measure.compiled import compiled
from pipelines.measure.drawing import Drawing, draw_fitting
from pipelines.measure.model import find_model
from pipelines.sections_of_sampling import SampleParams
from tests.pipelines.stage_inputs import saved_model


def compiling(test: Any) -> Any:
    """A test that waits for a compiler."""
    needs = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
    quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
    return pytest.mark.slow(needs(quiet(test)))


@compiling
def test_the_same_images(tmp_path: Path) -> None:
    ref = find_model(saved_model(tmp_path), "ema")
    eager, fast = (Drawing(ref, SampleParams(count=20, steps=5, batch_size=8, compile=c), 0) for c in (False, True))
    for ids in (range(8), range(16, 20)):
        one, two = (draw_fitting(drawing, ids).result.images.astype(int) for drawing in (eager, fast))
        assert np.abs(one - two).max() <= 1
        assert (one != two).mean() <= 0.01


def test_the_last_batch_is_no_reason_to_compile_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def noted(net: UNet, size: int) -> UNet:
        sizes.append(size)
        return net

    monkeypatch.setattr("pipelines.measure.drawing.compiled", noted)
    how = SampleParams(count=10, steps=2, batch_size=4, compile=True)
    drawing = Drawing(find_model(saved_model(tmp_path), "ema"), how, 0)
    for ids in (range(4), range(4, 8), range(8, 10)):
        draw_fitting(drawing, ids)
    assert sizes == [4]


@compiling
def test_other_numbers_of_images_are_not_compiled_anew() -> None:
    torch.manual_seed(0)
    net = UNet(8, 1, 8, (1,), blocks=1, classes=3).eval().requires_grad_(False)
    fast = compiled(net, 4)
    x, t, y = torch.randn(8, 1, 8, 8), torch.arange(1, 9), torch.arange(8) % 3
    graphs = []
    for n in (4, 8, 3, 1, 5):
        torch.testing.assert_close(fast(x[:n], t[:n], y[:n]), net(x[:n], t[:n], y[:n]), rtol=1e-4, atol=1e-5)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[1] > graphs[0]
    assert graphs[1:] == [graphs[1]] * 4
