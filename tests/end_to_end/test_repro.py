"""`dvc repro` on a tiny configuration of the real data: run, again, changed, by hand. In order, on one clone."""

import ast
import json
import math

import numpy as np
import pytest

from tests.end_to_end.project import Project

STAGES = ["prepare", "reference", "train", "classifier", "sample", "evaluate", "register"]

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def first(tiny: Project):
    return tiny.run("dvc", "repro")


def test_the_whole_graph_runs(first):
    assert sorted(first.stages) == sorted(STAGES)
    assert "Traceback" not in first.text


def test_a_second_run_runs_nothing(tiny, first):
    again = tiny.run("dvc", "repro")
    assert again.stages == []
    assert again.seconds < 5


def test_the_bound_adds_up_and_everything_is_finite(tiny, first):
    metrics = tiny.json("results/evaluate/metrics.json")
    bits = metrics["bits_per_dim"]
    assert bits["total"] == pytest.approx(bits["L_T"] + bits["L_t_sum"] + bits["L_0"], rel=1e-9)
    assert all(bits[f"{name}_se"] > 0 for name in ("L_T", "L_t_sum", "L_0", "total"))
    assert metrics["yardstick"]["uniform"] == pytest.approx(math.log2(17))
    distance = metrics["fd_classifier"]
    assert distance["value"] > 0
    assert distance["card"]
    assert _all_finite(metrics)


def test_the_outputs_are_there(tiny, first):
    for name in (
        "prepare/manifest.json",
        "prepare/data.png",
        "reference/card.json",
        "train/model.safetensors",
        "train/model.json",
        "train/metrics.json",
        "train/summary.json",
        "evaluate/summary.json",
        "train/loss.csv",
        "train/schedule.png",
        "train/noising.png",
        "classifier/card.json",
        "sample/samples.npy",
        "sample/grid.png",
        "sample/strip.png",
        "evaluate/per_timestep.parquet",
        "evaluate/per_image.parquet",
        "evaluate/bound_per_timestep.png",
        "register/receipt.json",
    ):
        assert (tiny.folder / "results" / name).stat().st_size > 0, name


def test_mlflow_holds_the_same_numbers_and_a_champion(tiny, first):
    code = """
import json, mlflow, numpy
client = mlflow.MlflowClient()
version = client.get_model_version_by_alias("ddpm-digits", "champion")
runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
metrics = {run.data.tags["stage"]: run.data.metrics for run in runs}
images = mlflow.pyfunc.load_model("models:/ddpm-digits@champion").predict({"count": 3, "seed": 1, "steps": 5})
print(json.dumps({"version": version.version, "metrics": metrics, "shape": list(numpy.shape(images))}))
"""
    output = tiny.python("-c", code, MLFLOW_TRACKING_URI=_store(tiny))
    found = json.loads(output.text.splitlines()[-1])
    bits = tiny.json("results/evaluate/metrics.json")["bits_per_dim"]
    for name in ("L_T", "L_t_sum", "L_0", "total"):
        assert found["metrics"]["evaluate"][f"bound/{name}"] == pytest.approx(bits[name], rel=1e-12)
        assert found["metrics"]["train"][f"bound/{name}"] >= 0  # on validation images
        assert f"bound_running/{name}" in found["metrics"]["train"]
    assert int(found["version"]) == 1
    assert found["shape"][0] == 3


def test_a_registered_version_is_drawn_from(tiny, first):
    """The sample stage's own first images, by sampler and seed."""
    tiny.python(
        *("-m", "pipelines.draw", "models:/ddpm-digits@champion", "--sampler", "ancestral", "--steps", "10"),
        *("--count", "16", "--batch-size", "16", "--out", "drawn.npy"),
    )
    drawn, samples = (np.load(tiny.folder / name) for name in ("drawn.npy", "results/sample/samples.npy"))
    np.testing.assert_array_equal(drawn, np.rint(samples[:16] * (255 / 16)))
    (tiny.folder / "drawn.npy").unlink()
    with pytest.raises(AssertionError, match="no version 9; there are 1, @champion"):
        tiny.python("-m", "pipelines.draw", "models:/ddpm-digits/9")


def test_registering_again_by_hand_changes_nothing(tiny, first):
    before = (tiny.folder / "results/register/receipt.json").read_bytes()
    tiny.python("-m", "pipelines.register")
    assert (tiny.folder / "results/register/receipt.json").read_bytes() == before
    assert len(_versions(tiny)) == 1


def test_an_edited_comment_trains_nothing_anew(tiny, first):
    source = tiny.folder / "diffusion/training/step.py"
    source.write_text(source.read_text() + "\n# an edited comment\n")
    digest = tiny.json("results/train/model.json")["digests"]
    output = tiny.run("dvc", "repro")
    assert output.stages == ["train"]  # DVC sees another file; the stage finds its finished run
    assert "nothing to train" in output.text
    assert tiny.json("results/train/model.json")["digests"] == digest


@pytest.mark.slow
def test_more_steps_continue_from_the_last_checkpoint(tiny, first):
    tiny.set(train__steps="30")
    output = tiny.run("dvc", "repro")
    assert output.stages == ["train", "sample", "evaluate", "register"]
    assert "step 20" in output.text, output.text  # resumed, and says from where
    assert len(_versions(tiny)) == 2
    compared = tiny.python("-m", "pipelines.compare", status=3).text  # the first one is worse
    assert "1" in compared
    assert "2" in compared
    assert "champion" in compared


def test_an_emptied_registry_is_filled_again(tiny, first):
    code = "import mlflow; mlflow.MlflowClient().delete_registered_model('ddpm-digits')"
    tiny.python("-c", code, MLFLOW_TRACKING_URI=_store(tiny))
    tiny.python("-m", "pipelines.register")
    assert len(_versions(tiny)) == 1


def test_the_summary_names_the_numbers(tiny, first):
    text = tiny.python("-m", "pipelines.summary").text
    for word in ("L_T", "L_0", "total", "champion"):
        assert word in text


@pytest.mark.slow
def test_a_temporary_experiment_leaves_its_version_in_the_same_registry(tiny, first):
    tiny.commit("after the first runs")
    before = len(_versions(tiny))
    tiny.run("dvc", "exp", "run", "--temp", "-S", "train.steps=25")
    assert len(_versions(tiny)) == before + 1


def _store(project: Project) -> str:
    return f"sqlite:///{project.folder / '.state/mlflow/mlflow.db'}"


def _versions(project: Project) -> list[str]:
    code = """
import mlflow
print([v.version for v in mlflow.MlflowClient().search_model_versions("name='ddpm-digits'")])
"""
    output = project.python("-c", code, MLFLOW_TRACKING_URI=_store(project))
    return [str(version) for version in ast.literal_eval(output.text.splitlines()[-1])]


def _all_finite(value: object) -> bool:
    if isinstance(value, dict):
        return all(_all_finite(v) for v in value.values())
    if isinstance(value, list):
        return all(_all_finite(v) for v in value)
    return not isinstance(value, float) or math.isfinite(value)
