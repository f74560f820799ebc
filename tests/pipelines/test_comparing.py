"""Two sets of images that a person names: clean-fid's number on folders, the floor, the command."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion.evaluation import frechet_distance
from pipelines import distance
from pipelines.cluster.parallel import serial_map
from pipelines.data.dataset import open_split
from pipelines.errors import DataError, ParamsError
from pipelines.measure.comparing import Comparison, compare
from pipelines.measure.described import describe
from pipelines.measure.extractor import Design, Extractor, random_extractor
from pipelines.measure.features import Extraction, features_of
from pipelines.measure.image_sets import open_images
from pipelines.measure.reference import write_reference
from pipelines.measure.referencing import make_reference
from pipelines.sections import ReferenceParams
from tests.pipelines.stage_inputs import prepared_digits
from tests.pipelines.standins import pretrained

pytestmark = pytest.mark.filterwarnings("ignore:The `disp` argument is deprecated:DeprecationWarning")  # clean-fid's


def folder(path: Path, count: int, side: int, *, seed: int, grey: bool = False) -> Path:
    """Random pictures in two sub-folders."""
    rng = np.random.default_rng(seed)
    for k in range(count):
        (path / f"{k % 2}").mkdir(parents=True, exist_ok=True)
        shape = (side, side) if grey else (side, side, 3)
        low = seed * 30  # so that two seeds differ
        Image.fromarray(rng.integers(low, 256, shape, dtype=np.uint8)).save(path / f"{k % 2}" / f"{k}.png")
    return path


def network(channels: int, features: int = 12) -> Extractor:
    return random_extractor(Design(channels, 16, features, None), seed=0)


def compared(a: Path, b: Path, extractor: Extractor) -> Comparison:
    return compare(open_images(str(a)), open_images(str(b)), extractor, "random")


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_folders_have_clean_fids_distance(grey: bool, channels: int, tmp_path: Path) -> None:
    from cleanfid.fid import compute_fid

    a, b = folder(tmp_path / "a", 60, 16, seed=1, grey=grey), folder(tmp_path / "b", 90, 16, seed=2)
    theirs = compute_fid(
        str(a),
        str(b),
        num_workers=0,
        device=torch.device("cpu"),
        custom_feat_extractor=network(channels),
        custom_fn_resize=lambda image: image,
        verbose=False,
    )
    ours = compared(a, b, network(channels))
    assert ours.scores.frechet.value == pytest.approx(theirs, rel=1e-6)
    assert (ours.metric, ours.scores.images, ours.card.b_images) == ("fd_random", 60, 90)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_folders_have_clean_fids_fid(tmp_path: Path) -> None:
    """With a stand-in for Inception's weights, in clean-fid's own wrapper, which both sides load."""
    from cleanfid.fid import compute_fid
    from cleanfid.inception_torchscript import InceptionV3W

    inception = pretrained("inception", tmp_path)
    sets = [folder(tmp_path / name, 2100, 28, seed=seed) for name, seed in (("a", 1), ("b", 2))]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", FutureWarning)
        (tmp_path / "inception-2015-12-05.pt").symlink_to(inception.file)
        theirs = compute_fid(
            *map(str, sets),
            num_workers=0,
            device=torch.device("cpu"),
            custom_feat_extractor=InceptionV3W(str(tmp_path), download=False),
            verbose=False,
        )
    a, b = (describe(Extraction(inception, 256, "cpu"), 2100, open_images(str(path)).read, serial_map) for path in sets)
    ours = frechet_distance(a.moments.mean, a.moments.covariance, b.moments.mean, b.moments.covariance)
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_the_floor_is_two_halves_of_the_second_set(tmp_path: Path) -> None:
    """In the fixed order of its images, each once but for the last of an odd number."""
    from cleanfid.fid import fid_from_feats

    a, b = folder(tmp_path / "a", 60, 16, seed=1), folder(tmp_path / "b", 81, 16, seed=2)
    found = compared(a, b, network(3))
    of_b = describe(Extraction(network(3), 256, "cpu"), 81, open_images(str(b)).read, serial_map).features
    assert found.halves is not None
    assert found.halves.images == 40
    assert found.halves.frechet.value == pytest.approx(fid_from_feats(of_b[:40], of_b[40:80]), rel=1e-6)
    assert (found.card.scoring.paired, found.card.scoring.paired_reference) == (40, 40)
    content = found.content()["fd_random"]
    assert content["halves"]["images"] == 40
    assert content["card"]["extractor_digest"] == network(3).digest


def test_a_second_set_too_small_for_halves_has_no_floor(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a", 60, 16, seed=1), folder(tmp_path / "b", 39, 16, seed=2)
    found = compared(a, b, network(3))
    assert found.halves is None
    assert found.card.scoring.paired_reference == 39


def test_too_few_images_are_refused_as_singular(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a", 30, 16, seed=1), folder(tmp_path / "b", 60, 16, seed=2)
    with pytest.raises(
        DataError, match=r"covariance of 40 features of 30 images in .*a is singular .* takes 44 images"
    ):
        compared(a, b, network(3, features=40))


def test_copies_of_one_picture_are_refused_as_singular(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a", 30, 16, seed=1), folder(tmp_path / "b", 1, 16, seed=2)
    for k in range(40):
        (b / "0" / f"copy{k}.png").write_bytes((b / "0" / "0.png").read_bytes())
    with pytest.raises(DataError, match=r"of .*b is singular"):
        compared(a, b, network(3))


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (Image.fromarray(np.full((16, 16), 40_000, dtype=np.uint16)), "more than 8 bits"),
        (Image.new("RGBA", (16, 16), (255, 0, 0, 128)), "is transparent in places"),
        (Image.new("RGB", (15, 16)), "15x16 pixels, and this extractor takes 16x16"),
        (None, "cannot be read as an image"),
    ],
)
def test_pictures_that_clean_fid_would_read_wrongly_are_refused(
    image: Image.Image | None, problem: str, tmp_path: Path
) -> None:
    a = folder(tmp_path / "a", 60, 16, seed=1)
    image.save(a / "bad.png") if image else (a / "bad.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=problem):
        compared(a, a, network(3))


def test_opaque_pictures_with_an_alpha_channel_are_taken(tmp_path: Path) -> None:
    Image.new("RGBA", (16, 16), (255, 0, 0, 255)).save(tmp_path / "a.png")
    features = features_of(Extraction(network(3), 256, "cpu"), [str(tmp_path / "a.png")])
    assert features.shape == (1, 12)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """results/ with digits and a reference of random features."""
    root = tmp_path_factory.mktemp("project") / "results"
    prepared_digits(root / "prepare")
    (root / "reference").mkdir()
    how = ReferenceParams(extractor="random", features=8)
    write_reference(root / "reference", make_reference(root / "prepare", how))
    return root


def run(monkeypatch: pytest.MonkeyPatch, project: Path, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["distance", *arguments])
    monkeypatch.setattr(distance, "results", lambda stage: project / stage)
    distance.main()


def test_the_command_on_what_stages_left(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    test, train = project / "prepare/test", project / "prepare/train"
    run(monkeypatch, project, str(test), str(train))
    printed = capsys.readouterr().out
    images = [len(open_split(project / "prepare", name)) for name in ("test", "train")]
    for part in ("fd_random", f"A, {images[0]} images", "two halves of B", "infinitely many", "KID", "precision"):
        assert part in printed
    run(monkeypatch, project, str(test), str(train), "--json")
    content = json.loads(capsys.readouterr().out)["fd_random"]
    assert [content["images"], content["card"]["b_images"]] == images
    assert content["card"]["levels"] == [17, 17]
    assert content["value"] < 2 * content["halves"]["value"]


def test_suffixes_in_capitals_are_taken_and_what_is_not_is_told(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = folder(tmp_path / "a", 40, 8, seed=1, grey=True)
    (pictures / "0" / "0.png").rename(pictures / "0" / "0.PNG")
    for name in ("notes.txt", "more.npy", ".hidden.png", "other.NPY"):
        (pictures / name).touch()
    run(monkeypatch, project, str(pictures), str(project / "prepare/train"))
    printed = " ".join(capsys.readouterr().out.split())
    assert "A, 40 images" in printed
    assert "because no images by their names: 2 .npy, 1 .txt, 1 hidden" in printed
    assert printed.count("ignored in") == 1


def test_the_command_without_a_reference_names_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "a", 2, 8, seed=1)
    with pytest.raises(ParamsError, match="or give --extractor inception or --extractor clip"):
        run(monkeypatch, tmp_path, str(tmp_path / "a"), str(tmp_path / "a"))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("nowhere", "neither a folder of images nor"),
        ("prepare", r"name a split of them, for example .*prepare/test"),
        ("reference", "holds no images: they end in .bmp"),
        ("odd.npy", r"holds float64 \(2, 3\), wanted uint8"),
    ],
)
def test_what_is_no_set_of_images_is_refused(name: str, problem: str, project: Path) -> None:
    np.save(project / "odd.npy", np.zeros((2, 3)))
    with pytest.raises(DataError, match=problem):
        open_images(str(project / name))


def test_an_array_has_256_levels_and_is_read_in_another_order(tmp_path: Path) -> None:
    images = np.arange(50, dtype=np.uint8).reshape(50, 1, 1, 1)
    np.save(tmp_path / "some.npy", images)
    found = open_images(str(tmp_path / "some.npy"))
    chunk = np.asarray(found.read(range(50))).ravel()
    assert (found.count, found.levels) == (50, 256)
    assert sorted(chunk.tolist()) == list(range(50)) != chunk.tolist()
    np.testing.assert_array_equal(np.asarray(found.read(range(10, 20))).ravel(), chunk[10:20])
