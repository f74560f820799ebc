"""A bound of a density, taken from t = 3 on, is called that wherever it is shown, beside yardsticks of its own kind."""

from math import log2
from pathlib import Path

import pytest
import torch
from rich.console import Console

from pipelines.data.dataset import open_split
from pipelines.measure.bound import Measuring
from pipelines.measure.drawing import Drawing
from pipelines.measure.evaluating import Evaluation, Inputs, evaluate
from pipelines.measure.model import find_model
from pipelines.measure.reference import write_reference
from pipelines.measure.referencing import make_reference
from pipelines.measure.sampling import draw_samples
from pipelines.measure.tables import metrics_of, write_evaluation
from pipelines.measure.yardstick import yardstick
from pipelines.sections import EvaluateParams, ReferenceParams
from pipelines.sections_of_sampling import SampleParams
from pipelines.summary import bound_table
from tests.pipelines.stage_inputs import prepared_digits, saved_model


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    torch.set_num_threads(1)  # as every worker has it
    root = tmp_path_factory.mktemp("results")
    inputs = Inputs(prepared_digits(root / "prepare"), root / "reference", root / "sample")
    saved_model(root / "train", T=6)
    for folder in (inputs.reference, inputs.samples):
        folder.mkdir()
    reference = make_reference(inputs.data, ReferenceParams(extractor="random", features=2))
    write_reference(inputs.reference, reference)
    draw_samples(inputs.samples, Drawing(find_model(root / "train", "ema"), SampleParams(count=20, steps=1), 0))
    return inputs


@pytest.fixture(scope="module")
def evaluation(inputs: Inputs) -> Evaluation:
    how = EvaluateParams(decoder="gaussian", first_time=3, images=4)
    return evaluate(Measuring(find_model(inputs.data.parent / "train", "ema"), how, 0), inputs)


def test_the_yardsticks_of_a_density_are_densities(inputs: Inputs, evaluation: Evaluation) -> None:
    """A level's probability lies on an eighth of [-1, 1]: p = P / (1/8), and -log2 p = -log2 P - 3."""
    of_levels = yardstick(*(open_split(inputs.data, name) for name in ("train", "test")), 4)
    assert evaluation.yardstick.uniform == pytest.approx(log2(17) - 3)
    assert evaluation.yardstick.histogram == pytest.approx(of_levels.histogram - 3)


def test_the_pictures_and_the_summaries_say_so(tmp_path: Path, evaluation: Evaluation, figures, texts_of) -> None:
    write_evaluation(tmp_path, evaluation)
    per_time, shares, images = figures
    assert not {"t = 1", "L₀, t = 1"} & {*texts_of(per_time), *texts_of(shares)}
    assert "L₀, t = 3" in texts_of(shares)
    assert any("bits/dim as a density on average" in text for text in texts_of(images))
    assert f"uniform over the levels {log2(17) - 3:.3f}" in texts_of(images)
    assert " bits/dim as a density (L_T" in evaluation.summary()

    metrics, console = metrics_of(evaluation), Console(width=100)
    with console.capture() as shown:
        console.print(bound_table(metrics["bits_per_dim"], metrics["yardstick"]))
    for text in ("bits per dimension, as a density, on 4 test images", "L_t, above t = 3", f"{log2(17) - 3:.4f}"):
        assert text in shown.get()
