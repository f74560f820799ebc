"""The choice of the first time: the curve against bounds measured one by one, the rule, the command and its errors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pipelines import first_time as command
from pipelines.data.dataset import ImageSplit, open_split
from pipelines.errors import CheckpointError, DataError, ParamsError, PipelineError, TrainingError
from pipelines.measure import first_time as measure
from pipelines.measure.bound import Measuring, bound_of_split
from pipelines.measure.first_time import candidates, first_times_of_split, geometric, validation_images
from pipelines.measure.first_time_choice import choose, local_lines, smoothed
from pipelines.measure.model import find_model
from pipelines.params import Params
from pipelines.prepare import prepare
from pipelines.report.pictures.first_time import first_time_curve
from pipelines.sections import EvaluateParams
from tests.pipelines.stage_inputs import DIGITS, changed, prepared_digits, saved_model

T, COUNT = 10, 40
"""Two chunks of images."""
HOW = EvaluateParams(decoder="normalized_levels", batch_size=64)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """As every worker has it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results/ folder with a model and its images."""
    root = tmp_path_factory.mktemp("results")
    prepared_digits(root / "prepare")
    saved_model(root / "train", T=T)
    return root


@pytest.fixture(scope="module")
def val(results: Path) -> ImageSplit:
    return open_split(results / "prepare", "val")


def measuring(model: Path, **values: object) -> Measuring:
    how = EvaluateParams.model_validate({**HOW.model_dump(), **values})
    return Measuring(find_model(model, how.weights), how, 0)


@pytest.fixture(scope="module")
def curve(results: Path, val: ImageSplit) -> pd.DataFrame:
    return first_times_of_split(measuring(results / "train"), val, COUNT).curve()


@pytest.fixture(scope="module")
def one_by_one(results: Path, val: ImageSplit) -> pd.DataFrame:
    """The bound of each image, a column for each first time: what evaluate would measure with it."""
    parts = {f: bound_of_split(measuring(results / "train", first_time=f), val, COUNT) for f in range(1, T + 1)}
    return pd.DataFrame({f: bits.total for f, bits in parts.items()})


def test_the_curve_is_what_evaluate_would_measure(curve: pd.DataFrame, one_by_one: pd.DataFrame) -> None:
    assert curve.first_time.tolist() == list(range(1, T + 1))
    np.testing.assert_allclose(curve.total, one_by_one.mean(), rtol=1e-5)
    np.testing.assert_allclose(curve.total_se, one_by_one.sem(), rtol=1e-4)
    np.testing.assert_allclose(curve.measured, curve.total, rtol=1e-12)  # ten times are too few to smooth
    np.testing.assert_allclose(curve.total, curve.L_T + curve.L_t_sum + curve.L_0, rtol=1e-12)
    assert curve.L_t_sum.tolist()[-1] == 0


def test_differences_are_taken_image_by_image(curve: pd.DataFrame, one_by_one: pd.DataFrame) -> None:
    lowest = int(one_by_one.mean().idxmin())
    apart = one_by_one.sub(one_by_one[lowest], axis=0)
    np.testing.assert_allclose(curve.difference, apart.mean(), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(curve.difference_se, apart.sem(), rtol=1e-3, atol=1e-6)
    row = curve[curve.first_time == lowest]
    assert (row.difference.item(), row.difference_se.item()) == (0, 0)


def test_a_conditional_model_is_told_the_labels(val: ImageSplit, tmp_path: Path) -> None:
    asked = measuring(saved_model(tmp_path / "model", T=3, classes=10, scale=0.5), first_time=2)
    alone = bound_of_split(asked, val, 5).total.mean()
    found = first_times_of_split(asked, val, 5).curve()
    assert found.total[1] == pytest.approx(alone, rel=1e-5)


def test_neighbouring_first_times_share_their_noise(val: ImageSplit, tmp_path: Path) -> None:
    """The L_0 of 300 times is smoothed; the sum of L_t and what evaluate measures stay."""
    asked = measuring(saved_model(tmp_path / "model", T=300), first_time=120)
    found = first_times_of_split(asked, val, 2).curve().set_index("first_time")
    alone = bound_of_split(asked, val, 2)
    assert found.measured[120] == pytest.approx(alone.total.mean(), rel=1e-5)
    assert found.L_t_sum[120] == pytest.approx(alone.L_t_sum.mean(), rel=1e-5)
    assert found.total.diff().std() < 0.8 * found.measured.diff().std()


def test_a_local_line_is_the_least_squares_line_of_its_window() -> None:
    """Against numpy's polynomials; a straight line stays one, also at the ends, and a lone point stays itself."""
    rng = np.random.default_rng(0)
    x = np.sort(np.concatenate([rng.uniform(0, 1, 40), [5.0]]))
    y = rng.normal(size=(2, 41))
    found = local_lines(x, y, 0.2)
    for k in (0, 7, 20, 39):
        window = np.abs(x - x[k]) <= 0.2
        for row in range(2):
            line = np.polynomial.Polynomial.fit(x[window], y[row, window], 1)
            assert found[row, k] == pytest.approx(line(x[k]), rel=1e-9)
    assert found[:, 40].tolist() == y[:, 40].tolist()
    np.testing.assert_allclose(local_lines(x, 3 - 2 * x[None], 0.2), 3 - 2 * x[None], rtol=1e-9)


def test_smoothing_averages_over_the_log_snr_within_reach() -> None:
    """Evenly spaced by 0.04: two neighbours on either side lie within 0.1, and the mean of five stays inside."""
    y = np.random.default_rng(0).normal(size=(1, 9))
    found = smoothed(y, -0.04 * np.arange(9))
    assert found[0, 4] == pytest.approx(y[0, 2:7].mean())
    assert found[0, 8] == y[0, 8]  # the chain of one step stands alone
    assert smoothed(y[:, :1], np.zeros(1)).tolist() == y[:, :1].tolist()
    np.testing.assert_array_equal(smoothed(y, -0.11 * np.arange(9)), y)


@pytest.mark.parametrize(
    ("difference", "error", "lowest", "level", "chosen"),
    [
        ([0.5, 0.1, 0.0, 0.1], [0.1, 0.01, 0.0, 0.01], 3, (3,), 3),
        ([0.5, 0.019, 0.0, 0.019], [0.1, 0.01, 0.0, 0.01], 3, (2, 3, 4), 2),
        ([0.5, 0.1, 0.0, 0.02], [0.25, 0.01, 0.0, 0.01], 3, (1, 3, 4), 1),  # the unsure ones count, wherever they are
        ([0.0, 0.1, 0.2, 0.3], [0.0, 0.5, 0.5, 0.5], 1, (1, 2, 3, 4), 1),
    ],
)
def test_the_smallest_of_those_that_cannot_be_told_apart(
    difference: list[float], error: list[float], lowest: int, level: tuple[int, ...], chosen: int
) -> None:
    total = [2 + value for value in difference]
    rows = {"first_time": [1, 2, 3, 4], "total": total, "difference": difference, "difference_se": error}
    choice = choose(pd.DataFrame(rows))
    assert (choice.lowest, choice.level, choice.first_time) == (lowest, level, chosen)


def test_all_first_times_or_a_grid_that_fits() -> None:
    assert candidates(1000, 10_000, now=1) == list(range(1, 1001))
    grid = candidates(1000, 500_000, now=7)
    assert len(grid) <= 20
    assert {1, 7, 1000} <= set(grid)
    assert grid == sorted(set(grid))
    assert candidates(10, 10**8, now=99) == [1, 10]


def test_a_grid_of_first_times_has_the_same_numbers(
    results: Path, val: ImageSplit, curve: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "_KEPT", 4 * COUNT)
    few = first_times_of_split(measuring(results / "train", first_time=4), val, COUNT).curve()
    columns = ["first_time", "L_T", "L_t_sum", "L_0", "total", "total_se", "measured"]
    expected = curve[curve.first_time.isin([1, 3, 4, 10])]
    pd.testing.assert_frame_equal(few[columns], expected[columns].reset_index(drop=True))


def test_a_geometric_grid() -> None:
    assert geometric(1000, 4) == [1, 10, 100, 1000]
    assert geometric(3, 16) == [1, 2, 3]
    assert geometric(1, 16) == [1]


def test_a_model_that_diverges_is_said(val: ImageSplit, tmp_path: Path) -> None:
    broken = measuring(saved_model(tmp_path / "model", T=3, scale=3e37))
    with pytest.raises(TrainingError, match=r"not finite .* t = \d+"):
        first_times_of_split(broken, val, 4)


def test_without_a_validation_split(results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "prepare"
    folder.mkdir()
    prepare(changed("prepare", val_fraction=0.0), folder)
    with pytest.raises(DataError, match=r"which has 0 images .*: set prepare\.val_fraction .* run `dvc repro`"):
        validation_images(folder, measuring(results / "train"))


def test_a_model_of_other_images(results: Path, tmp_path: Path) -> None:
    other = measuring(saved_model(tmp_path / "model", T=3, classes=3))
    with pytest.raises(DataError, match="knows 3 classes, the prepared images have 10"):
        validation_images(results / "prepare", other)


@pytest.mark.parametrize("rows", [1, 2, 10])
def test_the_picture_is_wide_and_repeatable(curve: pd.DataFrame, tmp_path: Path, rows: int) -> None:
    last = curve[-rows:]  # the lowest is among them
    for name in ("one.png", "two.png"):
        first_time_curve(last, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.width == 1660


@pytest.fixture
def project(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command's surroundings, with an empty .state and one worker."""
    evaluate = {**HOW.model_dump(), "decoder": "normalized_levels", "first_time": 5}
    params = Params.model_validate(DIGITS.model_dump(by_alias=True) | {"evaluate": evaluate})
    state = tmp_path / ".state"
    state.mkdir()
    monkeypatch.setattr(command, "results", lambda stage: results / stage)
    monkeypatch.setattr(command, "state", lambda: state)
    monkeypatch.setattr(command, "load_params", lambda: params)
    monkeypatch.setenv("PIPELINES__RAY__WORKERS", "1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return state / "first_time"


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["first_time", *arguments])
    command.main()


def test_the_command(
    project: Path, curve: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, "--images", str(COUNT))
    out = capsys.readouterr().out
    written = pd.read_csv(project / "normalized_levels.csv")
    pd.testing.assert_frame_equal(written, curve)  # on a worker as in this process
    choice = choose(curve)
    assert "40 of 175 validation images" in out
    assert f"lowest   first_time {choice.lowest}: " in out
    assert "now      first_time 5: " in out
    assert f"evaluate:\n             first_time: {choice.first_time}\n" in out
    assert str(project / "normalized_levels.csv") in out
    assert (project / "normalized_levels.png").stat().st_size > 10_000


def test_what_is_said_of_the_choice(curve: pd.DataFrame) -> None:
    choice = choose(curve)
    now = HOW.model_copy(update={"first_time": choice.first_time})
    said = "\n".join(command.findings(curve, choice, now, HOW.decoder))
    assert f"keep     first_time: {choice.first_time}, as params.yaml has it" in said
    said = "\n".join(command.findings(curve, choice, now, "gaussian"))
    assert f"decoder: gaussian\n             first_time: {choice.first_time}" in said


@pytest.mark.parametrize("arguments", [["--images", "1"], ["--images", "x"], ["--decoder", "none"], ["x"]])
def test_bad_arguments(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as exit_:
        call(monkeypatch, *arguments)
    assert exit_.value.code == 2


def test_a_curve_that_could_not_be_written_is_refused_first(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParamsError, match="cannot be written: name a file in a folder that exists"):
        call(monkeypatch, "--csv", str(project / "missing" / "curve.csv"))


@pytest.mark.parametrize(("missing", "error"), [("train", CheckpointError), ("prepare", DataError)])
def test_before_the_stages_have_run(
    missing: str,
    error: type[PipelineError],
    project: Path,
    results: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folders = {"train": results / "train", "prepare": results / "prepare", missing: tmp_path / "empty"}
    monkeypatch.setattr(command, "results", folders.__getitem__)
    with pytest.raises(error, match=r"run `dvc repro|train it again"):
        call(monkeypatch)
