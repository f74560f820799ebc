"""Each picture is a readable PNG, with the same bytes for the same input."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from diffusion.process import NoiseSchedule
from pipelines.report import pictures

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 17, (20, 1, 8, 8)).astype(np.uint8)
STEPS = np.arange(10, 210, 10)
LOSS = pd.DataFrame({"step": STEPS, "loss": 1 / STEPS, "gradient_norm": 2 / STEPS})
BOUND = pd.DataFrame({"step": [100, 200], "L_T": 0.001, "L_t_sum": [2.0, 1.8], "L_0": 0.1, "total": [2.101, 1.901]})
TIMES = np.arange(2, 101)
PER_TIME = pd.DataFrame({"t": TIMES, "L_t": 0.1 / TIMES, "L_t_se": 0.01 / TIMES})

DRAWN = {
    "data": lambda path: pictures.data_picture(IMAGES, 17, path, [str(k) for k in range(20)]),
    "colour": lambda path: pictures.data_picture(RNG.integers(0, 256, (3, 3, 300, 300)).astype(np.uint8), 256, path),
    "grid": lambda path: pictures.sample_grid(IMAGES, 17, path),
    "one": lambda path: pictures.sample_grid(IMAGES[:1], 17, path),
    "noising": lambda path: pictures.noising_strip(NoiseSchedule.linear(7), IMAGES[:3], 17, path),
    "reverse": lambda path: pictures.reverse_strip(np.zeros((4, 2, 1, 8, 8)), [9, 6, 3, 0], 17, path),
    "schedule": lambda path: pictures.schedule_curves(NoiseSchedule.cosine(50), NoiseSchedule.linear(), path),
    "loss": lambda path: pictures.loss_curve(LOSS, path, "the loss"),
    "short loss": lambda path: pictures.loss_curve(LOSS[:1], path, "the loss"),
    "per timestep": lambda path: pictures.bound_per_timestep(PER_TIME, path),
}


@pytest.mark.parametrize("name", [name for name in DRAWN if name != "colour"])
def test_a_picture_is_wide_and_repeatable(tmp_path: Path, name: str):
    for copy in ("one.png", "two.png"):
        DRAWN[name](tmp_path / copy)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.width == 1660
        assert 200 < picture.height < 4000
        assert len(picture.convert("L").getcolors(256) or []) > 10  # something is drawn


def test_large_colour_images_fit_the_page(tmp_path: Path):
    DRAWN["colour"](tmp_path / "colour.png")
    with Image.open(tmp_path / "colour.png") as picture:
        assert picture.width == 1660
