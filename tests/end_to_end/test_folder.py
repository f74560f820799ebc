"""The whole graph on a person's own folder: 500 PNG images of mixed sizes in three classes, two of them broken."""

import numpy as np
import pytest
from PIL import Image

from tests.end_to_end.project import TINY, Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def project(tmp_path):
    project = Project.clone(tmp_path / "project")
    images = project.folder / "data" / "shapes"
    rng = np.random.default_rng(0)
    for k in range(500):
        name = ("discs", "bars", "ramps")[k % 3]
        (images / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(_shape(name, rng)).save(images / name / f"{k:03}.png")
    (images / "discs" / "000.png").write_bytes(b"not a picture")
    whole = (images / "bars" / "001.png").read_bytes()
    (images / "bars" / "001.png").write_bytes(whole[: len(whole) // 2])
    own = {"data__source": "folder", "data__path": "data/shapes", "prepare__image_size": "16", "prepare__channels": "3"}
    project.set(**TINY, **own, evaluate__decoder="discretized_gaussian", register__name="ddpm-shapes")
    return project


def test_two_broken_files_stop_the_graph_and_are_named(project):
    output = project.run("dvc", "repro", status=255)
    assert "discs/000.png" in output.text
    assert "bars/001.png" in output.text
    assert "bad_images" in output.text  # the remedy
    assert not (project.folder / "results").exists() or not any((project.folder / "results").glob("*/*"))


def test_skipped_they_do_not_hold_up_the_rest(project):
    project.set(prepare__bad_images="skip")
    output = project.run("dvc", "repro")
    assert "discs/000.png" in output.text
    manifest = project.json("results/prepare/manifest.json")
    assert sum(manifest["counts"].values()) == 498
    assert manifest["levels"] == 256
    assert sorted(manifest["classes"]) == ["bars", "discs", "ramps"]
    assert project.json("results/evaluate/metrics.json")["fd_classifier"]["value"] > 0


def _shape(name: str, rng: np.random.Generator) -> np.ndarray:
    """An RGB picture of a random size, (H, W, 3) uint8."""
    height, width = rng.integers(16, 64, 2)
    y, x = np.mgrid[:height, :width]
    colour = rng.integers(64, 256, 3)
    if name == "discs":
        mask = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (min(width, height) / 3) ** 2
    elif name == "bars":
        mask = (x // 4) % 2 == 0
    else:
        mask = x / width
    noise = rng.integers(0, 8, (height, width, 3))
    return (mask[..., None] * colour * 0.9 + noise).astype(np.uint8)
