"""The reference stage: extractors, statistics, floor, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion.evaluation import Moments, frechet_distance
from pipelines.cluster.parallel import serial_map
from pipelines.data.dataset import open_split
from pipelines.data.manifest import read_manifest
from pipelines.errors import DataError
from pipelines.measure.described import describe
from pipelines.measure.extractor import Design, random_extractor, to_255
from pipelines.measure.features import Extraction, features_of
from pipelines.measure.reference import Reference, read_reference, write_reference
from pipelines.measure.referencing import make_reference
from pipelines.measure.scores import Scoring, score
from pipelines.prepare import prepare
from pipelines.sections import ReferenceParams
from tests.pipelines.stage_inputs import changed, prepared_digits

pytestmark = pytest.mark.filterwarnings("ignore:The `disp` argument is deprecated:DeprecationWarning")  # clean-fid's

CLASSIFIER = ReferenceParams(extractor="classifier", features=16, steps=150)
RANDOM = ReferenceParams(extractor="random", features=16)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_digits(tmp_path_factory.mktemp("digits") / "prepare")


@pytest.fixture(scope="module")
def classifier(digits: Path) -> Reference:
    return make_reference(digits, CLASSIFIER)


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 grey images in one folder without sub-folders."""
    root = tmp_path_factory.mktemp("flat")
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    for k, image in enumerate(images):
        Image.fromarray(image).save(root / f"{k}.png")
    params = changed("data", source="folder", path=str(root))
    params = params.model_copy(update={"prepare": params.prepare.model_copy(update={"image_size": 8})})
    folder = tmp_path_factory.mktemp("unlabelled")
    prepare(params, folder)
    return folder


def test_the_classifier_learns_the_digits(classifier: Reference) -> None:
    assert classifier.card.val_accuracy is not None
    assert classifier.card.val_accuracy > 0.9


def test_the_card_says_what_the_number_depends_on(digits: Path, classifier: Reference) -> None:
    card = classifier.card
    assert card.metric == "fd_classifier"
    assert card.design == Design(channels=1, side=8, features=16, classes=10)
    assert card.data_digest == read_manifest(digits).digest
    assert (card.split, card.images) == ("train", len(open_split(digits, "train")))
    assert card.extractor_digest == classifier.extractor.digest
    assert "17 levels" in card.quantisation
    assert card.resize == "none"
    assert f"of {card.held_out} held-out" in card.summary()


def test_the_statistics_are_those_of_the_training_split(digits: Path, classifier: Reference) -> None:
    train = open_split(digits, "train")
    features = features_of(Extraction(classifier.extractor, 17, "cpu"), train.read(np.arange(len(train))))
    np.testing.assert_allclose(classifier.mean, features.mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(classifier.covariance, np.cov(features.astype(np.float64), rowvar=False), rtol=1e-5)


def test_held_out_images_are_closer_than_noise(classifier: Reference) -> None:
    noise = np.random.default_rng(0).integers(0, 17, (400, 1, 8, 8)).astype(np.uint8)
    how = Scoring.of([400, len(classifier.held_out)], len(classifier.features), seed=0)
    of_noise = score(features_of(Extraction(classifier.extractor, 17, "cpu"), noise), classifier.against, how)
    floor = score(classifier.held_out, classifier.against, how)
    assert 0 < floor.frechet.value < of_noise.frechet.value / 10
    assert floor.kid.value < of_noise.kid.value / 10
    assert floor.neighbours.precision > of_noise.neighbours.precision + 0.5


def test_the_features_are_those_of_the_first_images(digits: Path, classifier: Reference) -> None:
    extraction = Extraction(classifier.extractor, 17, "cpu")
    for name, kept in (("train", classifier.features), ("test", classifier.held_out)):
        split = open_split(digits, name)
        again = features_of(extraction, split.read(np.arange(len(split))))
        np.testing.assert_allclose(kept, again, rtol=1e-4, atol=1e-4)  # on more threads


def test_the_same_seed_gives_the_same_bits(digits: Path) -> None:
    how = CLASSIFIER.model_copy(update={"steps": 20})
    first, second, other = (make_reference(digits, how.model_copy(update={"seed": seed})) for seed in (0, 0, 1))
    assert first.card == second.card
    np.testing.assert_array_equal(first.covariance, second.covariance)
    assert other.card.extractor_digest != first.card.extractor_digest


def test_random_features_need_no_labels(unlabelled: Path) -> None:
    reference = make_reference(unlabelled, RANDOM.model_copy(update={"features": 8}))
    assert reference.card.metric == "fd_random"
    assert reference.card.val_accuracy is None


def test_dataset_is_the_classifier_with_labels_and_random_without(digits: Path, unlabelled: Path) -> None:
    how = ReferenceParams(extractor="dataset", features=8, steps=2)
    assert make_reference(digits, how).card.extractor == "classifier"
    assert make_reference(unlabelled, how).card.extractor == "random"


def test_a_classifier_without_labels_is_refused(unlabelled: Path) -> None:
    with pytest.raises(DataError, match="`classifier`, but the training split has 0 different labels"):
        make_reference(unlabelled, ReferenceParams(extractor="classifier", features=8))


def test_fewer_images_than_features_are_refused_before_any_training(unlabelled: Path) -> None:
    with pytest.raises(DataError, match=r"has 64 features, but the training split has \d+ images"):
        make_reference(unlabelled, ReferenceParams(extractor="random", features=64))


def test_written_and_read_again(classifier: Reference, tmp_path: Path) -> None:
    write_reference(tmp_path, classifier)
    again = read_reference(tmp_path)
    assert again.card == classifier.card
    np.testing.assert_array_equal(again.mean, classifier.mean)
    np.testing.assert_array_equal(again.covariance, classifier.covariance)
    np.testing.assert_array_equal(again.features, classifier.features)
    np.testing.assert_array_equal(again.held_out, classifier.held_out)
    images = torch.full((1, 1, 8, 8), 100.0)
    torch.testing.assert_close(again.extractor(images), classifier.extractor(images), rtol=0, atol=0)


def test_writing_twice_gives_the_same_bytes(classifier: Reference, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_reference(tmp_path / name, classifier)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == [*("card.json", "extractor.safetensors", "features.npy", "held_out.npy", "statistics.safetensors")]
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)


def test_a_missing_reference_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"card\.json is missing; run `dvc repro reference`"):
        read_reference(tmp_path)


def test_a_damaged_reference_is_refused(classifier: Reference, tmp_path: Path) -> None:
    write_reference(tmp_path, classifier)
    path = tmp_path / "extractor.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    with pytest.raises(DataError, match="does not have the weights"):
        read_reference(tmp_path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged"):
        read_reference(tmp_path)


@pytest.mark.parametrize("name", ["features.npy", "held_out.npy"])
def test_features_of_another_number_of_images_are_refused(name: str, classifier: Reference, tmp_path: Path) -> None:
    write_reference(tmp_path, classifier)
    np.save(tmp_path / name, np.load(tmp_path / name)[:-1])
    with pytest.raises(DataError, match=rf"{name} holds float32 \(\d+, 16\), not the features"):
        read_reference(tmp_path)


def test_a_card_of_another_version_is_refused(classifier: Reference, tmp_path: Path) -> None:
    write_reference(tmp_path, classifier)
    card = json.loads((tmp_path / "card.json").read_text())
    (tmp_path / "card.json").write_text(json.dumps({**card, "new": 1}))
    with pytest.raises(DataError, match="another version"):
        read_reference(tmp_path)


def test_features_do_not_depend_on_the_chunks(classifier: Reference) -> None:
    """Moments of chunks of 256 are those of all images at once."""
    images = np.random.default_rng(0).integers(0, 17, (600, 1, 8, 8)).astype(np.uint8)
    extraction = Extraction(classifier.extractor, 17, "cpu")
    found = describe(extraction, 600, lambda part: images[part.start : part.stop], serial_map, keep=300)
    whole = features_of(extraction, images)
    np.testing.assert_allclose(found.features, whole[:300], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.moments.covariance, Moments.of(whole).covariance, rtol=1e-5)


def test_clean_fid_gives_the_same_features_and_distance_from_files(tmp_path: Path) -> None:
    """Images of 256 levels as PNG files, read by clean-fid with our network as its custom extractor, not resized."""
    from cleanfid import fid

    rng = np.random.default_rng(0)
    extractor = random_extractor(Design(channels=1, side=8, features=12, classes=None), seed=0)
    moments, gaussians = [], []
    for name in ("one", "two"):
        images = rng.integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)
        (tmp_path / name).mkdir()
        for k, image in enumerate(images):
            Image.fromarray(image[0]).save(tmp_path / name / f"{k:03}.png")
        ours = features_of(Extraction(extractor, 256, "cpu"), images)
        theirs = fid.get_folder_features(
            str(tmp_path / name),
            model=extractor,
            num_workers=0,
            device=torch.device("cpu"),
            custom_fn_resize=lambda image: image,
            verbose=False,
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
        moments.append(Moments.of(ours))
        gaussians += [theirs.mean(axis=0), np.cov(theirs, rowvar=False)]
    one, two = moments
    distance = frechet_distance(one.mean, one.covariance, two.mean, two.covariance)
    assert distance == pytest.approx(float(fid.frechet_distance(*gaussians)), rel=1e-4)


def test_an_rgb_extractor_sees_grey_as_three_equal_channels() -> None:
    extractor = random_extractor(Design(channels=3, side=8, features=4, classes=None), seed=0)
    grey = torch.rand(2, 1, 8, 8) * 255
    torch.testing.assert_close(extractor(grey), extractor(grey.expand(-1, 3, -1, -1)))


def test_large_images_are_averaged_down_to_64() -> None:
    """Blocks of 2x2 equal pixels average to themselves."""
    extractor = random_extractor(Design(channels=1, side=128, features=4, classes=None), seed=0)
    small = torch.rand(1, 1, 64, 64) * 255
    large = small.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(extractor(large), extractor(small))
    assert extractor.resize == "area to 64x64"


def test_grey_levels_fill_the_scale() -> None:
    assert to_255(torch.tensor([0, 8, 16], dtype=torch.uint8), 17).tolist() == [0.0, 127.5, 255.0]
    assert to_255(torch.tensor([0, 255], dtype=torch.uint8), 256).tolist() == [0.0, 255.0]
