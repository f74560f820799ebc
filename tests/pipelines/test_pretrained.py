"""Inception and CLIP through clean-fid, with small stand-ins for their weights: the same features as clean-fid's."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.cluster.parallel import on_ray, serial_map
from pipelines.cluster.session import ray_session
from pipelines.errors import CheckpointError, DataError, ParamsError
from pipelines.measure.described import describe
from pipelines.measure.distance import doubts
from pipelines.measure.features import Extraction, features_of
from pipelines.measure.pretrained import Pretrained, PretrainedName, find_pretrained, pictures_of
from pipelines.measure.reference import read_reference, write_reference
from pipelines.measure.referencing import make_reference
from pipelines.prepare import prepare
from pipelines.sections import ReferenceParams
from pipelines.settings import RaySettings, Settings, WeightsSettings
from tests.pipelines.stage_inputs import changed, prepared_digits
from tests.pipelines.standins import open_clip, pretrained

__all__ = ["open_clip"]


def saved(folder: Path, images: np.ndarray) -> Path:
    """Images (n, C, H, W) of 256 levels as PNG files."""
    for k, image in enumerate(images):
        Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(folder / f"{k:04}.png")
    return folder


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_inceptions_features_are_clean_fids(channels: int, tmp_path: Path) -> None:
    """From its own wrapper of the file, on PNG files that it reads and resizes in its mode `clean`."""
    from cleanfid.fid import get_folder_features
    from cleanfid.inception_torchscript import InceptionV3W

    network, images = pretrained("inception", tmp_path), random_images(3, channels, 20, 31)
    ours = features_of(Extraction(network, 256, "cpu"), images)
    network.file.rename(tmp_path / "inception-2015-12-05.pt")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", FutureWarning)
        model = InceptionV3W(str(tmp_path), download=False)
    theirs = get_folder_features(
        str(saved(tmp_path, images)), model, num_workers=0, device=torch.device("cpu"), mode="clean", verbose=False
    )
    assert ours.shape == (3, 2048)
    np.testing.assert_array_equal(ours, theirs)


def test_levels_become_bytes_as_a_file_would_hold_them() -> None:
    """Of 17 levels the ninth is 127.5, which has to be rounded (to even)."""
    pictures = pictures_of(np.array([[[[0, 7, 8, 16]]]], dtype=np.uint8), levels=17)
    assert pictures[0].tolist() == [[[0] * 3, [112] * 3, [128] * 3, [255] * 3]]


def test_a_file_that_was_exchanged_is_not_opened(tmp_path: Path) -> None:
    """As a worker finds it that reads it later than the stage did."""
    network = pretrained("inception", tmp_path)
    other = replace(network, file=tmp_path / "other.pt")
    other.file.write_bytes(network.file.read_bytes() + b"!")
    with pytest.raises(CheckpointError, match=r"is not inception\.pt"):
        features_of(Extraction(other, 256, "cpu"), random_images(1, 1, 8, 8))


def test_clips_features_are_those_of_a_normalised_image(open_clip: None, tmp_path: Path) -> None:
    """Of an image of one colour: the mean of each channel, as CLIP's paper normalises it."""
    images = np.full((1, 3, 10, 16), 64, dtype=np.uint8)
    features = features_of(Extraction(pretrained("clip", tmp_path), 256, "cpu"), images)
    assert features.shape == (1, 512)
    np.testing.assert_allclose(features, (64 / 255 - 0.48145466) / 0.26862954, rtol=1e-5)


def test_clip_crops_and_rounds_as_clean_fid_does(open_clip: None, tmp_path: Path) -> None:
    network = pretrained("clip", tmp_path)
    picture = random_images(30, 50, 3)
    [given] = network.from_pictures([picture])
    whole = np.asarray(Image.fromarray(picture).resize((373, 224), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(given.permute(1, 2, 0).numpy(), whole[:, 74:298])


def test_clips_package_is_named_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ParamsError, match=r"needs the package open_clip_torch.*'\.\[clip\]'"):
        find_pretrained("clip", Settings())


def test_the_settings_say_where_the_file_is(tmp_path: Path) -> None:
    file = tmp_path / "x.pt"
    file.write_bytes(b"x")
    file.chmod(0o600)
    with pytest.raises(CheckpointError, match=r"x\.pt is not inception-2015-12-05\.pt"):
        find_pretrained("inception", Settings(weights=WeightsSettings(inception=file)))


def test_a_reference_by_clip(open_clip: None, tmp_path: Path) -> None:
    """Made, written and read with its file beside it, not in it; refused with another one."""
    network = pretrained("clip", tmp_path)

    def find(name: PretrainedName) -> Pretrained:
        assert name == "clip"
        return network

    for name in ("raw", "prepared", "reference"):
        (tmp_path / name).mkdir()
    saved(tmp_path / "raw", random_images(640, 3, 16, 16))
    params = changed("data", source="folder", path=str(tmp_path / "raw"))
    sizes = {"image_size": 16, "channels": 3, "val_fraction": 0.0, "test_fraction": 0.05}
    prepare(params.model_copy(update={"prepare": params.prepare.model_copy(update=sizes)}), tmp_path / "prepared")
    made = make_reference(tmp_path / "prepared", ReferenceParams(extractor="clip"), find=find)
    write_reference(tmp_path / "reference", made)
    again = read_reference(tmp_path / "reference", find)
    assert again.extractor == network
    assert again.card == made.card
    assert (made.card.metric, made.card.features, made.card.extractor_digest) == ("fd_clip", 512, network.digest)
    assert "224" in made.card.resize
    assert "rounded, grey tripled" in made.card.quantisation
    assert {path.name for path in (tmp_path / "reference").iterdir()} == {
        *("card.json", "features.npy", "held_out.npy", "statistics.safetensors")
    }
    network = replace(network, pinned=replace(network.pinned, sha256="0" * 64))
    with pytest.raises(DataError, match="does not have the weights"):
        read_reference(tmp_path / "reference", find)


def test_fewer_images_than_inception_has_features_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"inception has 2048 features, but .* singular or close to it: use 2157"):
        make_reference(prepared_digits(tmp_path / "digits"), ReferenceParams(extractor="inception"))


@pytest.mark.slow
def test_workers_give_the_same_features_of_arrays_and_of_files(tmp_path: Path) -> None:
    network, images = pretrained("inception", tmp_path), random_images(300, 3, 6, 6)
    (tmp_path / "files").mkdir()
    files = [str(path) for path in sorted(saved(tmp_path / "files", images).iterdir())]
    alone = describe(Extraction(network, 256, "cpu"), 300, lambda part: images[part.start : part.stop], serial_map)
    settings = Settings(ray=RaySettings(workers=2))
    with ray_session(settings):
        for chunks in (images, files):
            read = partial(lambda of, part: of[part.start : part.stop], chunks)
            found = describe(Extraction(network, 256, "cpu"), 300, read, on_ray(settings))
            np.testing.assert_array_equal(found.features, alone.features)
            np.testing.assert_array_equal(found.moments.scatter, alone.moments.scatter)


def test_an_fid_of_few_images_comes_with_a_warning() -> None:
    assert doubts("inception", 10_000, 10_000) == ()
    assert doubts("clip", 500, 10_000) == ()
    [warning] = doubts("inception", 50_000, 9_999)
    assert warning.startswith("FID of 9,999 images: below 10,000")
