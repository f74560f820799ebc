"""The registry is away when a pipeline comes to it: nothing is changed there, and afterwards that stage runs alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.end_to_end.project import Output, Project
from tests.pipelines.tracking.proxy import Mode, Proxy, mlflow_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    with mlflow_server(tmp_path) as port:
        proxy = Proxy(port)
        yield proxy
        proxy.close()


def repro(project: Project, proxy: Proxy, status: int = 0) -> Output:
    return project.run("dvc", "repro", status=status, MLFLOW_TRACKING_URI=proxy.url)


def test_the_stage_runs_alone_when_the_registry_is_back(tiny: Project, proxy: Proxy) -> None:
    client = MlflowClient(proxy.url, proxy.url)
    proxy.mode = Mode.REFUSED
    away = repro(tiny, proxy, status=255)
    assert away.stages[-1] == "register"
    assert "the MLflow server (tracking.uri) could not be used" in away.text
    assert "Traceback" not in away.text
    assert not (tiny.folder / "results/register/receipt.json").exists()

    proxy.mode, proxy.fails_at = Mode.HEALTHY, "model-versions/create"
    failing = repro(tiny, proxy, status=255)
    assert failing.stages == ["register"]
    assert "Traceback" not in failing.text
    assert not client.search_model_versions("name = 'ddpm-digits'")

    proxy.fails_at = ""
    assert repro(tiny, proxy).stages == ["register"]
    (version,) = client.search_model_versions("name = 'ddpm-digits'")
    assert client.get_model_version_by_alias("ddpm-digits", "champion").version == version.version
    assert repro(tiny, proxy).stages == []

    tiny.python("-m", "pipelines.sync", MLFLOW_TRACKING_URI=proxy.url)
    (experiment,) = [each for each in client.search_experiments() if each.name == "ddpm-digits"]
    runs = client.search_runs([experiment.experiment_id], "tags.stage = 'train'")
    assert [run.info.status for run in runs] == ["FINISHED"]
    for name in runs[0].data.metrics:
        points = client.get_metric_history(runs[0].info.run_id, name)
        assert len({point.step for point in points}) == len(points), name
    assert len(runs[0].data.metrics) > 10
