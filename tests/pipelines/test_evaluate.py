"""The evaluate stage: the bound with its errors and card, the distance, the yardstick, the files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import log2
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from diffusion.models.saved import load_model
from diffusion.process import DiscretizedGaussian, GaussianDensity, NormalizedLevels, bound, to_unit
from diffusion.training.random import normal_per_image
from pipelines.build import build_decoder
from pipelines.cluster.parallel import on_ray, serial_map
from pipelines.cluster.session import ray_session
from pipelines.data.dataset import open_split
from pipelines.data.manifest import read_manifest
from pipelines.errors import DataError, TrainingError
from pipelines.evaluate import track
from pipelines.measure.bound import DataImages, Measuring, bound_of_split, measure_bound
from pipelines.measure.drawing import Drawing
from pipelines.measure.evaluating import Evaluation, Inputs, evaluate
from pipelines.measure.model import find_model
from pipelines.measure.reference import write_reference
from pipelines.measure.referencing import make_reference
from pipelines.measure.sampling import draw_samples
from pipelines.measure.tables import write_evaluation
from pipelines.sections import EvaluateParams, ReferenceParams
from pipelines.sections_of_sampling import SampleParams
from pipelines.settings import RaySettings, Settings
from pipelines.stage import outputs
from tests.pipelines.stage_inputs import prepared_digits, saved_model

HOW = EvaluateParams(images=40, batch_size=64)


@dataclass(frozen=True)
class Results:
    """A results/ folder up to the stage."""

    inputs: Inputs
    model: Path


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """As every worker has it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    root = tmp_path_factory.mktemp("results")
    model = saved_model(root / "train", T=10)
    inputs = Inputs(prepared_digits(root / "prepare"), root / "reference", root / "sample")
    inputs.reference.mkdir()
    write_reference(inputs.reference, make_reference(inputs.data, ReferenceParams(features=8, steps=30)))
    inputs.samples.mkdir()
    draw_samples(inputs.samples, Drawing(find_model(model, "ema"), SampleParams(count=30, steps=5, batch_size=16), 0))
    return Results(inputs, model)


def measuring(results: Results, seed: int = 0, **values: object) -> Measuring:
    how = EvaluateParams.model_validate({**HOW.model_dump(), **values})
    return Measuring(find_model(results.model, how.weights), how, seed)


@pytest.fixture(scope="module")
def evaluation(results: Results) -> Evaluation:
    return evaluate(measuring(results), results.inputs)


@pytest.fixture(scope="module")
def written(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    write_evaluation(folder, evaluation)
    return folder


def metrics(folder: Path) -> dict[str, dict[str, object]]:
    content: dict[str, dict[str, object]] = json.loads((folder / "metrics.json").read_text())
    return content


def test_the_files(written: Path) -> None:
    assert {path.name for path in written.iterdir()} == {
        *(
            "metrics.json",
            "summary.json",
            "per_timestep.parquet",
            "per_timestep.csv",
            "per_image.parquet",
            "bound_shares.csv",
        ),
        *("bound_per_timestep.png", "bound_shares.png", "bits_per_image.png"),
    }


def test_metrics_have_the_promised_names(written: Path) -> None:
    terms = ["L_T", "L_t_sum", "L_0", "total"]
    content = metrics(written)
    assert content.keys() == {"bits_per_dim", "fd_classifier", "yardstick"}
    assert content["bits_per_dim"].keys() == {*terms, *(f"{term}_se" for term in terms), "card"}
    numbers = {"images", "value", "value_se", "low", "high", "infinity", "infinity_se", "kid", "kid_se"}
    numbers |= {"precision", "recall", "density", "coverage"}
    assert content["fd_classifier"].keys() == {*numbers, "held_out", "card"}
    assert content["fd_classifier"]["held_out"].keys() == numbers
    assert content["yardstick"].keys() == {"uniform", "histogram"}


def test_metrics_are_finite(written: Path) -> None:
    json.loads((written / "metrics.json").read_text(), parse_constant=pytest.fail)  # NaN, Infinity


def test_the_terms_add_up(written: Path) -> None:
    bits = metrics(written)["bits_per_dim"]
    assert bits["total"] == pytest.approx(bits["L_T"] + bits["L_t_sum"] + bits["L_0"], rel=1e-12)
    per_image = pd.read_parquet(written / "per_image.parquet")
    assert list(per_image.columns) == ["image_id", "L_T", "L_t_sum", "L_0", "total"]
    np.testing.assert_allclose(per_image.total, per_image.L_T + per_image.L_t_sum + per_image.L_0, rtol=1e-12)


def test_standard_errors_are_those_of_the_images(written: Path) -> None:
    """s / sqrt(n), by pandas."""
    bits, per_image = metrics(written)["bits_per_dim"], pd.read_parquet(written / "per_image.parquet")
    for term in ("L_T", "L_t_sum", "L_0", "total"):
        assert bits[term] == pytest.approx(per_image[term].mean(), rel=1e-12)
        assert bits[f"{term}_se"] == pytest.approx(per_image[term].sem(), rel=1e-9)


def test_the_table_over_time(written: Path) -> None:
    per_timestep = pd.read_parquet(written / "per_timestep.parquet")
    assert list(per_timestep.columns) == ["t", "L_t", "L_t_se"]
    assert per_timestep.t.tolist() == list(range(2, 11))
    assert per_timestep.L_t.sum() == pytest.approx(metrics(written)["bits_per_dim"]["L_t_sum"], rel=1e-9)
    pd.testing.assert_frame_equal(pd.read_csv(written / "per_timestep.csv"), per_timestep)


def test_the_bound_is_that_of_the_core_on_the_stated_noise(results: Results, evaluation: Evaluation) -> None:
    """By hand: the first images, noise by (seed, id, t), the decoder of 17 levels."""
    saved, test = load_model(results.model), open_split(results.inputs.data, "test")
    terms = bound(
        saved.net,
        saved.schedule,
        to_unit(torch.from_numpy(test.read(np.arange(40))), 17),
        noise=lambda t, shape: normal_per_image(0, "bound", test.ids[:40], t, shape[1:]),
        decoder=DiscretizedGaussian(17),
        variance="small",
    )
    assert evaluation.image_ids == test.ids[:40]
    np.testing.assert_allclose(evaluation.bits.total, terms.total.numpy(), rtol=1e-5)
    np.testing.assert_allclose(evaluation.bits.L_t.mean, terms.L_t.mean(dim=0).numpy(), rtol=1e-5)


def test_one_and_two_workers_give_the_same_bound(results: Results, evaluation: Evaluation) -> None:
    test = open_split(results.inputs.data, "test")
    with ray_session(Settings(ray=RaySettings(workers=2))):
        for workers in (1, 2):
            mapper = on_ray(Settings(ray=RaySettings(workers=workers)))
            bits = bound_of_split(measuring(results), test, 40, mapper)
            np.testing.assert_array_equal(bits.total, evaluation.bits.total)
            np.testing.assert_array_equal(bits.L_t.mean, evaluation.bits.L_t.mean)


def test_an_images_bound_does_not_depend_on_the_others(results: Results, evaluation: Evaluation) -> None:
    test = open_split(results.inputs.data, "test")
    picked = [7, 3]
    images = DataImages(test.read(np.array(picked)), [test.ids[k] for k in picked], None)
    alone = measure_bound(measuring(results), images)
    np.testing.assert_allclose(alone.total, evaluation.bits.total[picked], rtol=1e-5)


def test_a_later_first_time_leaves_out_the_terms_below(results: Results) -> None:
    test = open_split(results.inputs.data, "test")
    late = bound_of_split(measuring(results, first_time=4), test, 4)
    assert late.t.tolist() == [5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize(
    ("name", "decoder"),
    [
        ("discretized_gaussian", DiscretizedGaussian(17)),
        ("normalized_levels", NormalizedLevels(17)),
        ("gaussian", GaussianDensity()),
    ],
)
def test_decoders_by_name(name: str, decoder: object) -> None:
    assert build_decoder(name, 17) == decoder


def test_a_conditional_model_is_told_each_images_label(results: Results, tmp_path: Path) -> None:
    conditional = Results(results.inputs, saved_model(tmp_path / "model", T=10, classes=10, scale=0.5))
    test, asked = open_split(results.inputs.data, "test"), measuring(conditional, batch_size=7)
    together = bound_of_split(asked, test, 9)
    labels = test.labels
    assert labels is not None

    def alone(k: int, label: int) -> float:
        images = DataImages(test.read(np.array([k])), [test.ids[k]], np.array([label]))
        return float(measure_bound(asked, images).total[0])

    np.testing.assert_allclose(together.total, [alone(k, labels[k]) for k in range(9)], rtol=1e-5)
    assert alone(0, (labels[0] + 1) % 10) != pytest.approx(together.total[0], rel=1e-5)


def test_the_yardstick(results: Results, evaluation: Evaluation) -> None:
    """The histograms are counted here in another way."""
    train, test = (open_split(results.inputs.data, name) for name in ("train", "test"))
    images, measured = train.read(np.arange(len(train))), test.read(np.arange(40))
    counts = np.stack([(images == level).sum(axis=0) for level in range(17)]) + 1
    probabilities = np.take_along_axis(counts / (len(train) + 17), measured.astype(np.int64), axis=0)
    assert evaluation.yardstick.uniform == log2(17)
    assert evaluation.yardstick.histogram == pytest.approx(-np.log2(probabilities).mean(), rel=1e-12)
    assert 2 < evaluation.yardstick.histogram < 3


def test_the_cards(results: Results, evaluation: Evaluation) -> None:
    card, digest = evaluation.card, load_model(results.model).digest
    assert (card.split, card.images, card.times, card.first_time) == ("test", 40, 10, 1)
    assert (card.decoder, card.levels, card.variance, card.clip_x0) == ("discretized_gaussian", 17, "small", True)
    assert (card.weights, card.model_digest) == ("ema", digest)
    assert card.data_digest == read_manifest(results.inputs.data).digest
    assert evaluation.distance.card.samples.model_digest == digest
    assert evaluation.distance.card.reference.extractor == "classifier"


def test_the_key_is_that_of_the_cards(evaluation: Evaluation) -> None:
    assert evaluation.key == replace(evaluation, bits=evaluation.bits.joined([evaluation.bits])).key
    assert evaluation.key != replace(evaluation, card=replace(evaluation.card, seed=1)).key


def test_samples_of_another_model_are_refused(results: Results, tmp_path: Path) -> None:
    other = Results(results.inputs, saved_model(tmp_path / "model", T=10, scale=0.2))
    with pytest.raises(DataError, match="drawn from another model"):
        evaluate(measuring(other), results.inputs)


def test_a_model_of_other_images_is_refused(results: Results, tmp_path: Path) -> None:
    conditional = Results(results.inputs, saved_model(tmp_path / "model", T=10, classes=3))
    with pytest.raises(DataError, match="knows 3 classes, the prepared images have 10"):
        evaluate(measuring(conditional), results.inputs)


def test_a_model_that_diverges_leaves_nothing_behind(results: Results, tmp_path: Path) -> None:
    broken = Results(results.inputs, saved_model(tmp_path / "model", T=10, scale=3e37))
    test, final = open_split(results.inputs.data, "test"), tmp_path / "results" / "evaluate"
    with pytest.raises(TrainingError, match=r"not finite .* t = \d+"), outputs(final):
        bound_of_split(measuring(broken), test, 4, serial_map)
    assert list(final.parent.iterdir()) == []


@dataclass
class Recorder:
    """Stands where the tracker does."""

    points: dict[tuple[str, int], float] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.points |= {(name, step): value for name, value in values.items()}

    def tags(self, values: dict[str, str]) -> None:
        self.labels |= values


def test_tracked_by_name(evaluation: Evaluation, written: Path) -> None:
    tracker = Recorder()
    track(tracker, evaluation)
    content = metrics(written)
    for term in ("L_T", "L_t_sum", "L_0", "total", "total_se"):
        assert tracker.points[f"bound/{term}", 0] == content["bits_per_dim"][term]
    distance = content["fd_classifier"]
    assert tracker.points["fd_classifier", 0] == distance["value"]
    assert tracker.points["fd_classifier_low", 0] == distance["low"]
    assert tracker.points["fd_classifier_held_out", 0] == distance["held_out"]["value"]
    assert tracker.points["fd_classifier_held_out_recall", 0] == distance["held_out"]["recall"]
    assert json.loads(tracker.labels["fd_classifier.card"]) == distance["card"]
    assert tracker.points["yardstick/histogram", 0] == content["yardstick"]["histogram"]
    assert [tracker.points["bound/L_t", t] for t in range(2, 11)] == evaluation.bits.L_t.mean.tolist()
    assert tracker.labels["model.digest"] == evaluation.card.model_digest


def test_the_summary_names_the_numbers(evaluation: Evaluation) -> None:
    assert all(
        word in evaluation.summary() for word in ("bits/dim", "L_T", "L_t", "L_0", "histograms", "fd_classifier")
    )
