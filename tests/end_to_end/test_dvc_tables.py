"""What `dvc exp show`, `dvc metrics diff` and `dvc plots diff` say of this project: the handful of numbers, the curves.

Two commits hold results that were written by hand; nothing is trained.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from pipelines.cluster.outcome import summary_of as summary_of_training
from pipelines.measure.tables import summary_of as summary_of_evaluation
from tests.end_to_end.project import ROOT, Project
from tests.pipelines.conftest import evaluation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BOUNDS = (2.5, 2.25)
"""Of the two commits."""
DVC_YAML = yaml.safe_load((ROOT / "dvc.yaml").read_text())


def summaries(bound: float) -> dict[str, dict[str, Any]]:
    """As the two stages write them."""
    validation = {"validation_bits_per_dim": {"total": bound + 1, "total_se": 0.1}}
    training = summary_of_training({"steps": int(1000 * bound), "parameters": 1234, "loss": bound / 8} | validation)
    return {"train": training, "evaluate": summary_of_evaluation(evaluation("m", bound, distance=2 * bound))}


def write_results(folder: Path, bound: float) -> None:
    """The files that dvc.yaml names as metrics and plots, and something for each stage."""
    for stage in DVC_YAML["stages"]:
        (folder / "results" / stage).mkdir(parents=True, exist_ok=True)
        (folder / "results" / stage / "made").write_text(str(bound))
    for stage, content in summaries(bound).items():
        (folder / "results" / stage / "summary.json").write_text(json.dumps(content))
    for plot in DVC_YAML["plots"]:
        if isinstance(plot, str):
            Image.new("L", (2, 2)).save(folder / plot)
            continue
        (options,) = plot.values()
        for path, columns in options["y"].items():
            names = [columns] if isinstance(columns, str) else columns
            rows = [[options["x"], *names], *([k, *[bound / k] * len(names)] for k in (1, 2))]
            (folder / path).write_text("".join(f"{','.join(map(str, row))}\n" for row in rows))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project.clone(tmp_path_factory.mktemp("dvc") / "project")
    for bound in BOUNDS:
        write_results(made.folder, bound)
        made.set(train__steps=str(int(1000 * bound)))
        made.run("dvc", "commit", "-f", "-q")
        made.commit(f"bound {bound}")
    return made


def test_metrics_diff(project: Project) -> None:
    found = json.loads(project.run("dvc", "metrics", "diff", "HEAD~1", "HEAD", "--json").text)
    old, new = (summaries(bound) for bound in BOUNDS)
    changed = {
        f"results/{stage}/summary.json": {
            name: {"old": old[stage][name], "new": value, "diff": pytest.approx(value - old[stage][name])}
            for name, value in content.items()
            if value != old[stage][name]
        }
        for stage, content in new.items()
    }
    assert found == changed
    assert {"bits_per_dim", "fd_classifier"} <= set(found["results/evaluate/summary.json"])


def test_exp_show(project: Project) -> None:
    """Also those numbers that are the same in both; no others."""
    rows = list(csv.DictReader(io.StringIO(project.run("dvc", "exp", "show", "-n", "2", "--csv").text)))
    wanted = summaries(BOUNDS[1])["train"] | summaries(BOUNDS[1])["evaluate"]
    names = list(rows[0])
    numbers = {name for name in names if not name.startswith("results/") and name in wanted}
    assert numbers == set(wanted)
    for row, bound in zip(rows, (BOUNDS[1], BOUNDS[1], BOUNDS[0]), strict=True):  # the workspace, then the commits
        numbers_then = summaries(bound)["train"] | summaries(bound)["evaluate"]
        assert {name: float(row[name]) for name in wanted} == numbers_then
        assert row["train.steps"] == str(int(1000 * bound))


def test_plots_diff(project: Project) -> None:
    found = json.loads(project.run("dvc", "plots", "diff", "HEAD~1", "HEAD", "--json").text)
    assert not found.get("errors")
    curves = {name: drawn for name, drawn in found["data"].items() if not name.endswith(".png")}
    assert set(curves) == {name for plot in DVC_YAML["plots"] if isinstance(plot, dict) for name in plot}
    (loss,) = curves["loss"]
    points = loss["content"]["data"]["values"]
    assert {(point["rev"], float(point["loss"])) for point in points} == {
        (rev, bound / k) for rev, bound in zip(("HEAD~1", "HEAD"), BOUNDS, strict=True) for k in (1, 2)
    }
