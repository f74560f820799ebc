"""`python -m pipelines.draw`: from a model's name to pictures."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion.drawing import Guidance, Recipe, draw
from diffusion.models import Classifier
from diffusion.models.saved import load_model
from diffusion.models.saved_classifier import load_classifier, save_classifier
from diffusion.process import NoiseSchedule
from pipelines import draw as command
from pipelines.errors import CheckpointError, ParamsError, TrackingError, TrainingError
from tests.pipelines.stage_inputs import saved_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("model"), classes=3)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["draw", *map(str, arguments)])
    command.main()


def test_levels_are_those_of_the_core(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also when they are drawn in several batches, up to the rounding of the kernels."""
    options = ["--class", 1, "--sampler", "ddim", "--eta", 0.5, "--steps", 4, "--seed", 7, "--count", 5]
    run(monkeypatch, model, *options, "--batch-size", 2, "--out", tmp_path / "a.npy")
    assert f"5 images with 4 network calls each: {tmp_path / 'a.npy'}" in capsys.readouterr().out
    recipe = Recipe("ddim", 4, options={"eta": 0.5})
    wanted = draw(load_model(model), recipe, 7, range(5), label=1).images.astype(int)
    drawn = np.load(tmp_path / "a.npy")
    assert (drawn.shape, drawn.dtype) == ((5, 1, 8, 8), np.uint8)
    assert np.abs(drawn - np.rint(wanted * 255 / 16)).max() <= 16


def test_a_class_is_led_to(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the network alone, or by a classifier, which also tells a network without labels what to draw."""
    free, untold = saved_model(tmp_path / "free", classes=3, null_label=True), saved_model(tmp_path / "untold")
    torch.manual_seed(0)
    net = Classifier(3, 8, 1, 8, (1,), blocks=1)
    torch.nn.init.normal_(net.to_scores.weight)
    save_classifier(tmp_path / "classifier", net, NoiseSchedule.log_snr_linear(20), 17, {})
    options: list[object] = ["--class", 1, "--sampler", "ddim", "--steps", 4, "--count", 3, "--out", tmp_path / "a.npy"]
    led = ["--guidance", 3, "--guidance-interval", 6, 15]
    cases = [
        (free, led, Guidance("classifier_free", 3.0, (6, 15)), None),
        (untold, [*led, "--classifier", tmp_path / "classifier"], Guidance("classifier", 3.0, (6, 15)), True),
        (untold, ["--classifier", tmp_path / "classifier"], Guidance("classifier", 1.0), True),
    ]
    for folder, arguments, guidance, by in cases:
        run(monkeypatch, folder, *options, *arguments)
        classifier = load_classifier(tmp_path / "classifier") if by else None
        recipe = Recipe("ddim", 4, guidance=guidance)
        wanted = draw(load_model(folder), recipe, 0, range(3), label=1, classifier=classifier).images
        np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.rint(wanted * (255 / 16)))
    with pytest.raises(ParamsError, match="always told the class"):
        run(monkeypatch, model, *options, "--guidance", 2)
    with pytest.raises(ParamsError, match="from the smaller to the larger"):
        run(monkeypatch, free, *options, "--guidance", 2, "--guidance-interval", 9, 3)


@pytest.mark.parametrize("name", ["grid.png", "way.gif", "way.mp4"])
@pytest.mark.parametrize("way", [[], ["--to", 5, "--points", 3]], ids=["one seed", "two seeds"])
def test_every_picture(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, way: list[object]
) -> None:
    run(monkeypatch, model, "--steps", 3, "--count", 4, *way, "--out", tmp_path / name)
    assert (tmp_path / name).stat().st_size > 500
    if name.endswith(".gif"):
        with Image.open(tmp_path / name) as gif:
            assert gif.n_frames > 3


def test_the_ends_of_the_way_are_the_images_of_the_seeds(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {}
    for name, options in {"way": ["--to", 5, "--points", 3], "begin": [], "end": ["--seed", 5]}.items():
        run(monkeypatch, model, "--steps", 3, "--count", 4, *options, "--out", tmp_path / f"{name}.npy")
        drawn[name] = np.load(tmp_path / f"{name}.npy").astype(int)
    way = drawn["way"].reshape(4, 3, 1, 8, 8)
    assert np.abs(way[:, 0] - drawn["begin"]).max() <= 16  # a grey level
    assert np.abs(way[:, 2] - drawn["end"]).max() <= 16
    assert np.abs(way[:, 1] - drawn["begin"]).max() > 16


def test_files_for_each_image(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, model, "--steps", 3, "--count", 4, "--out", tmp_path / "images")
    files = sorted((tmp_path / "images").iterdir())
    assert [file.name for file in files] == [f"{k:06}.png" for k in range(4)]
    with Image.open(files[0]) as image:
        assert (image.size, image.mode) == ((8, 8), "L")
    with pytest.raises(ParamsError, match="is a folder that is not empty: name a new one"):
        run(monkeypatch, model, "--steps", 3, "--count", 2, "--out", tmp_path / "images")


def test_an_ending_in_capitals_is_the_same_ending(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("A.PNG", "A.NPY"):
        run(monkeypatch, model, "--steps", 3, "--count", 2, "--out", tmp_path / name)
        assert (tmp_path / name).is_file()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--class", 3], TrainingError, r"class 3 was asked for, but the model's classes are 0\.\.2"),
        (["--steps", 21], ParamsError, r"must lie in 1\.\.T = 1\.\.20, got 21"),
        (["--sampler", "ddim", "--eta", 1, "--to", 3], ParamsError, "adds noise of its own, so the way would not end"),
        (["--points", 3], ParamsError, "give --to SEED"),
        (["--guidance-interval", 1, 9], ParamsError, "needs --guidance W or --classifier FOLDER"),
        (["--classifier", "nowhere"], ParamsError, "no classifier in nowhere: set classifier.steps above 0"),
        (["--eta", 0.5], ParamsError, "dpm_solver has no option 'eta'"),
        (["--order", 4], ParamsError, "order must be one of 1, 2, 3, got 4"),
        (["--sampler", "ancestral", "--variance", "learned"], ParamsError, "has not learned one"),
        (["--out", "nowhere/a.png"], ParamsError, "name a file or a new folder in a folder that exists"),
        (["--out", "a.jpg"], ParamsError, r"must end in \.png, \.gif, \.mp4 or \.npy"),
    ],
)
def test_bad_input(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[object],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        run(monkeypatch, model, *options)
    assert not list(tmp_path.iterdir())


def test_no_such_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"no model in .*: model\.json is missing"):
        run(monkeypatch, tmp_path)
    with pytest.raises(TrackingError, match="is written models:/NAME/VERSION or models:/NAME@ALIAS, got models:/a"):
        run(monkeypatch, "models:/a")
