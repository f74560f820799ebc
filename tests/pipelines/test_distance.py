"""How far samples are from the training images, and held-out images beside them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from diffusion.evaluation import kid, precision_recall
from pipelines.cluster.parallel import serial_map
from pipelines.data.dataset import open_split
from pipelines.errors import DataError
from pipelines.measure.distance import Distance, distance_of_samples
from pipelines.measure.drawing import Drawing
from pipelines.measure.evaluating import Inputs
from pipelines.measure.features import Extraction, Features, features_of
from pipelines.measure.model import find_model
from pipelines.measure.reference import Reference, read_reference, write_reference
from pipelines.measure.referencing import make_reference
from pipelines.measure.sampling import draw_samples
from pipelines.sections import ReferenceParams
from pipelines.sections_of_sampling import SampleParams
from tests.pipelines.stage_inputs import prepared_digits, saved_model


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    root = tmp_path_factory.mktemp("results")
    inputs = Inputs(prepared_digits(root / "prepare"), root / "reference", root / "sample")
    for folder in (inputs.reference, inputs.samples):
        folder.mkdir()
    how = ReferenceParams(extractor="random", features=8)
    write_reference(inputs.reference, make_reference(inputs.data, how))
    drawing = Drawing(find_model(saved_model(root / "train", T=6), "ema"), SampleParams(count=30, steps=2), 0)
    draw_samples(inputs.samples, drawing)
    return inputs


@pytest.fixture(scope="module")
def distance(inputs: Inputs) -> Distance:
    return distance_of_samples(inputs.samples, read_reference(inputs.reference), seed=0)


def features_of_samples(inputs: Inputs, reference: Reference) -> Features:
    drawn = np.load(inputs.samples / "samples.npy")
    [(_, features)] = serial_map(partial(features_of, Extraction(reference.extractor, 17, "cpu")), [drawn])
    return features


@pytest.mark.filterwarnings("ignore:The `disp` argument is deprecated:DeprecationWarning")  # clean-fid's
def test_the_distances_are_of_the_stated_images(inputs: Inputs, distance: Distance) -> None:
    """30 samples beside the first 30 held-out images, all with all training images; by another way of computing."""
    from cleanfid.fid import fid_from_feats

    reference = read_reference(inputs.reference)
    samples = features_of_samples(inputs, reference)
    assert distance.held_out is not None
    for scores, features in ((distance.samples, samples), (distance.held_out, reference.held_out[:30])):
        assert scores.images == 30
        theirs = fid_from_feats(*(np.asarray(f, np.float64) for f in (features, reference.features)))
        assert scores.frechet.value == pytest.approx(theirs, rel=1e-6)
        assert scores.frechet.low < scores.frechet.value < scores.frechet.high
        assert scores.infinity.value < scores.frechet.value
        assert scores.kid == kid(features, reference.features)
        assert scores.neighbours == precision_recall(features, reference.features, 3)
    how = distance.card.scoring
    assert (how.paired, how.paired_reference, how.seed) == (30, len(reference.features), 0)


def test_few_held_out_images_are_all_taken_and_set_the_number_of_pairs(inputs: Inputs) -> None:
    whole = read_reference(inputs.reference)
    few = replace(whole, held_out=whole.held_out[:24])
    distance = distance_of_samples(inputs.samples, few, seed=0)
    assert distance.held_out is not None
    assert (distance.samples.images, distance.held_out.images, distance.card.scoring.paired) == (30, 24, 24)
    assert distance.samples.kid == kid(features_of_samples(inputs, whole)[:24], whole.features)


def test_too_few_held_out_images_are_no_floor(inputs: Inputs) -> None:
    whole = read_reference(inputs.reference)
    distance = distance_of_samples(inputs.samples, replace(whole, held_out=whole.held_out[:19]), seed=0)
    assert distance.held_out is None
    assert "held_out" not in distance.content()
    assert distance.card.scoring.paired == 30


def test_training_images_as_samples_are_close(inputs: Inputs, distance: Distance, tmp_path: Path) -> None:
    reference = read_reference(inputs.reference)
    assert distance.held_out is not None
    assert distance.samples.frechet.value > distance.held_out.frechet.value
    for name in ("samples.json", "samples.npy"):
        (tmp_path / name).write_bytes((inputs.samples / name).read_bytes())
    train = open_split(inputs.data, "train")
    np.save(tmp_path / "samples.npy", train.read(np.arange(30)))
    near = distance_of_samples(tmp_path, reference, seed=0).samples
    assert near.frechet.value < distance.samples.frechet.value / 4
    assert near.neighbours.precision == 1


def test_too_few_samples_are_refused(inputs: Inputs, tmp_path: Path) -> None:
    few = SampleParams(count=19, steps=2)
    draw_samples(tmp_path, Drawing(find_model(inputs.data.parent / "train", "ema"), few, 0))
    with pytest.raises(DataError, match=r"8 features of 19 samples is singular or .* set sample\.count to 20 or more"):
        distance_of_samples(tmp_path, read_reference(inputs.reference), seed=0)
