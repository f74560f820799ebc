"""Models that predict something else than eps, or a variance too: trained, resumed, measured and drawn from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffusion.models.saved import load_model
from diffusion.process import DiscretizedGaussian, bound, to_unit
from diffusion.training.random import normal_per_image
from pipelines.cluster.job import Job, Place
from pipelines.cluster.loop import Loop
from pipelines.cluster.outcome import finished, write_outcome
from pipelines.data.dataset import open_split
from pipelines.errors import ParamsError
from pipelines.measure.bound import Measuring, bound_of_split
from pipelines.measure.drawing import Drawing, draw_fitting
from pipelines.measure.model import find_model
from pipelines.params import Params, load_params
from pipelines.runs.local import LocalStore
from pipelines.sections import EvaluateParams
from pipelines.sections_of_sampling import SampleParams
from tests.pipelines.stage_inputs import DIGITS, changed, prepared_digits, saved_model

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "hybrid, learned variance, importance": {
        "model": {"learned_variance": True},
        "train": {"objective": "hybrid", "times": "importance"},
        "evaluate": {"variance": "learned"},
        "sample": {"variance": "learned"},
    },
    "bound, learned variance, stratified, v": {
        "model": {"learned_variance": True, "predicts": "v"},
        "train": {"objective": "bound", "times": "stratified"},
    },
    "classes, some left out": {"model": {"class_conditional": True}, "train": {"label_dropout": 0.2}},
    "zero terminal SNR, v": {"process": {"zero_terminal_snr": True}, "model": {"predicts": "v"}},
    "zero terminal SNR, x_0, bound": {
        "process": {"zero_terminal_snr": True},
        "model": {"predicts": "x_0", "learned_variance": True},
        "train": {"objective": "bound", "times": "importance"},
    },
    "x_0, min-SNR": {"model": {"predicts": "x_0"}, "train": {"weighting": "min_snr", "weighting_gamma": 2.0}},
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_digits(tmp_path_factory.mktemp("data") / "prepared")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """As in a worker."""
    torch.set_num_threads(1)


def variant(name: str, steps: int) -> Params:
    values = DIGITS.model_dump(by_alias=True)
    small = {
        "process": {"T": 40},
        "model": {"channels": 8, "fourier_features": (3,)},
        "train": {"steps": steps, "batch_size": 16, "warmup_steps": 2, "val_every": 8, "val_images": 6, "val_calls": 5},
    }
    for changes in (small, VARIANTS[name]):
        for section, keys in changes.items():
            values[section] = values[section] | keys
    return Params.model_validate(values | {"sample": values["sample"] | {"steps": 10}})


def job(params: Params, prepared: Path, run: Path) -> Job:
    return Job(params, prepared, LocalStore(run), "0123456789abcdef", every_steps=5, keep=2)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_trained_resumed_measured_and_drawn_from(name: str, prepared: Path, tmp_path: Path) -> None:
    place = Place(0, 1, torch.device("cpu"))
    Loop(job(variant(name, 13), prepared, tmp_path / "run"), place, lambda _: None).run()
    whole, resumed = (job(variant(name, 24), prepared, tmp_path / run) for run in ("whole", "run"))
    for each in (whole, resumed):
        Loop(each, place, lambda _: None).run()
    ends = [finished(each) for each in (whole, resumed)]
    assert ends[0] is not None
    assert ends[1] is not None
    for group in ends[0].checkpoint.files:
        if group.endswith(".safetensors"):
            one, other = (end.checkpoint.load(group.removesuffix(".safetensors")) for end in ends if end)
            assert all(torch.equal(one[tensor], other[tensor]) for tensor in one), group

    params, folder = variant(name, 24), tmp_path / "train"
    folder.mkdir()
    write_outcome(ends[1], folder)
    saved = load_model(folder)
    assert (saved.predicts, saved.learned_variance) == (params.model.predicts, params.model.learned_variance)
    assert (saved.classes, saved.null_label) == ((10, True) if params.train.label_dropout else (None, False))
    assert (folder / "weights.png").exists()

    model, test = find_model(folder, "ema"), open_split(prepared, "test")
    measured = bound_of_split(Measuring(model, params.evaluate, 0), test, 4)
    assert np.isfinite(measured.total).all()
    drawn = draw_fitting(Drawing(model, params.sample, 0), range(3)).result.images
    assert drawn.shape == (3, 1, 8, 8)
    assert drawn.max() <= 16


@pytest.mark.parametrize("predicts", ["eps", "x_0", "v"])
def test_the_stages_measure_what_the_core_measures(predicts: str, prepared: Path, tmp_path: Path) -> None:
    """A learned variance, and the same network with a fixed one."""
    folder = saved_model(tmp_path / "model", T=10, predicts=predicts, learned_variance=True)
    saved, test = load_model(folder), open_split(prepared, "test")
    x_0 = to_unit(torch.from_numpy(test.read(np.arange(4))), 17)

    def noise(t: int, shape: torch.Size) -> torch.Tensor:
        return normal_per_image(0, "bound", test.ids[:4], t, shape[1:])

    totals = []
    for variance in ("learned", "small"):
        how = EvaluateParams.model_validate({"variance": variance})
        found = bound_of_split(Measuring(find_model(folder, "ema"), how, 0), test, 4).total
        net = saved.net if variance == "learned" else (lambda x, t: saved.net(x, t)[:, :1])
        terms = bound(
            net, saved.schedule, x_0, noise=noise, decoder=DiscretizedGaussian(17), variance=variance, target=predicts
        )
        np.testing.assert_allclose(found, terms.total.numpy(), rtol=1e-5)
        totals.append(found)
    assert not np.allclose(*totals, rtol=1e-3)


def test_ancestral_samples_with_the_learned_variance_differ(tmp_path: Path) -> None:
    model = find_model(saved_model(tmp_path / "model", T=10, learned_variance=True), "ema")
    how = SampleParams(count=4, steps=5)
    small, learned = (
        draw_fitting(Drawing(model, how.model_copy(update={"variance": variance}), 0), range(4)).result.images
        for variance in ("small", "learned")
    )
    assert not np.array_equal(small, learned)


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("evaluate", {"variance": "learned"}, r"evaluate\.variance is learned, but model\.learned_variance is false"),
        ("sample", {"variance": "learned"}, r"sample\.variance is learned, but model\.learned_variance is false"),
        (
            "process",
            {"zero_terminal_snr": True},
            r"a network that predicts it says nothing .* set model\.predicts to v or x_0",
        ),
        ("model", {"learned_variance": True}, r"model\.learned_variance needs train\.objective hybrid or bound"),
        ("train", {"weighting_gamma": 2.0}, "weighting_gamma is of min_snr and p2, and weighting is none"),
        ("train", {"objective": "bound", "weighting": "snr"}, "objective bound has its own weighting"),
        (
            "train",
            {"val_calls": 1001},
            r"train\.val_calls \(1001\) must be below process\.T \(1000\): set it to 999 or",
        ),
        ("process", {"T": 3}, r"process\.T\n.* greater than or equal to 4"),
        ("train", {"val_images": 1}, r"train\.val_images\n.* greater than or equal to 2"),
        ("train", {"val_calls": 50}, "val_calls must be odd"),
        ("train", {"label_dropout": 0.1}, r"label_dropout is 0\.1, but model\.class_conditional is false"),
        ("train", {"label_dropout": 1.0}, r"train\.label_dropout\n.* less than 1"),
    ],
)
def test_parameters_that_contradict_each_other(section: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        changed(section, **values)


def test_an_unknown_objective_is_named_with_those_there_are(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "presets" / "digits.yaml").read_text()
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("objective: bound", "objective: vlb"))
    with pytest.raises(ParamsError, match=r"train\.objective: .*'simple', 'bound' or 'hybrid', got 'vlb'"):
        load_params(path)
