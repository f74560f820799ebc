"""The pictures of a run call its loss and its weights what they are, whatever it minimises."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines.cluster.job import Job
from pipelines.cluster.outcome import Curves, Finished, _draw, loss_name
from pipelines.params import Params
from pipelines.runs.local import LocalStore
from tests.pipelines.stage_inputs import DIGITS, prepared_digits

BOUND = "the bound's terms, T Lₜ, in bits/dim"
MIN_SNR = {"weighting": "min_snr"}


def digits(model: dict[str, Any], train: dict[str, Any]) -> Params:
    content = DIGITS.model_dump(by_alias=True)
    content["model"] |= model
    content["train"] |= train
    return Params.model_validate(content)


@pytest.mark.parametrize(
    ("model", "train", "name"),
    [
        ({}, {}, "mean of (ε − ε̂)² per pixel"),
        ({"predicts": "x_0"}, {}, "mean of (x₀ − x̂₀)² per pixel"),
        ({"predicts": "v"}, MIN_SNR, "mean of wₜ (ε − ε̂)² per pixel, weights “min_snr”"),
        ({"predicts": "v"}, {"objective": "hybrid"}, f"mean of (v − v̂)² per pixel\n+ 0.001 × {BOUND}"),
        ({"learned_variance": True}, {"objective": "bound"}, BOUND),
    ],
)
def test_the_loss_by_name(model: dict[str, Any], train: dict[str, Any], name: str) -> None:
    assert loss_name(digits(model, train)) == name


@pytest.mark.parametrize(
    ("model", "train", "used"),
    [({}, MIN_SNR, "min_snr"), ({"learned_variance": True}, {"objective": "bound"}, "bound")],
)
def test_what_the_pictures_of_a_run_say(
    tmp_path: Path, figures, texts_of, model: dict[str, Any], train: dict[str, Any], used: str
) -> None:
    params = digits(model, train)
    run = Finished(Job(params, prepared_digits(tmp_path / "data"), LocalStore(tmp_path), "", 5, 2), None)  # type: ignore[arg-type]
    loss = pd.DataFrame({"step": [1, 2], "loss": [0.5, -0.25], "gradient_norm": [2.0, 1.0]})
    _draw(run, Curves(loss, pd.DataFrame(), pd.DataFrame()), tmp_path)
    of_loss, of_weights, _ = figures
    assert loss_name(params) in texts_of(of_loss)
    assert of_loss.get_suptitle() == "The training loss ends at −0.25"
    assert [axes.get_yscale() for axes in of_loss.axes] == ["linear", "log"]
    assert of_weights.get_suptitle().startswith(f"“{used}”, in use, has half")
    drawn = any("drawn with σₜ² = β̃ₜ; the network trains its own" in text for text in texts_of(of_weights))
    assert drawn is bool(model)
