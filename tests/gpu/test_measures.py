"""Samples and the bound on CUDA: the same on any workers, and those of the CPU up to rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.cluster.parallel import on_ray, serial_map
from pipelines.data.dataset import open_split
from pipelines.measure.bound import Measuring, bound_of_split
from pipelines.measure.drawing import Drawing
from pipelines.measure.model import find_model
from pipelines.measure.sampling import draw_samples, read_samples
from pipelines.sections import EvaluateParams
from pipelines.sections_of_sampling import SampleParams
from tests.gpu.conftest import DEVICE, ray_settings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),  # its own, of its own parts
    pytest.mark.usefixtures("ray_is_up"),
]

SAMPLERS = [
    pytest.param({"sampler": "ancestral", "variance": "learned"}, id="ancestral"),
    pytest.param({"sampler": "ddim"}, id="ddim"),
]


def mappers() -> dict[str, Any]:
    return {"here": serial_map, **{f"on {n}": on_ray(ray_settings(n, 0.25)) for n in (1, 2)}}


@pytest.mark.parametrize("how", SAMPLERS)
def test_samples(model: Path, tmp_path: Path, how: dict[str, Any]) -> None:
    """Of the CPU's pixels at most one in a thousand is another, by one of 17 levels."""
    params = SampleParams(count=200, steps=10, batch_size=64, **how)
    for name, mapper in mappers().items():
        (tmp_path / name).mkdir()
        draw_samples(tmp_path / name, Drawing(find_model(model, "ema", DEVICE), params, 0), mapper)
    for path in (tmp_path / "here").iterdir():
        assert len({(tmp_path / name / path.name).read_bytes() for name in mappers()}) == 1, path.name
    (tmp_path / "cpu").mkdir()
    draw_samples(tmp_path / "cpu", Drawing(find_model(model, "ema"), params, 0))
    found, wanted = (read_samples(tmp_path / name).images.astype(int) for name in ("here", "cpu"))
    assert np.abs(found - wanted).max() <= 1
    assert (found != wanted).mean() <= 1e-3
    assert read_samples(tmp_path / "here").card.device == DEVICE


@pytest.mark.parametrize(("variance", "decoder"), [("learned", "normalized_levels"), ("small", "discretized_gaussian")])
def test_the_bound(lab: Any, model: Path, variance: Any, decoder: Any) -> None:
    """The same bits on any workers; of the CPU's each image's bound within 1e-4 bits/dim."""
    how = EvaluateParams(images=40, batch_size=64, variance=variance, decoder=decoder)
    split = open_split(lab.prepared, "test")
    totals = {
        name: bound_of_split(Measuring(find_model(model, "ema", DEVICE), how, 0), split, 40, mapper).total
        for name, mapper in mappers().items()
    }
    for total in totals.values():
        np.testing.assert_array_equal(total, totals["here"])
    wanted = bound_of_split(Measuring(find_model(model, "ema"), how, 0), split, 40)
    np.testing.assert_allclose(totals["here"], wanted.total, rtol=0, atol=1e-4)
