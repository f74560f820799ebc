"""Scrape configuration, alerts and dashboards: promtool, a parser of PromQL, and the names that are really exported."""

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.cluster.gauges import METRICS
from tests.infra.conftest import INFRA, run, tool

FOLDER = INFRA / "monitoring"


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / "training.json").read_text())
    return content


def queries() -> list[str]:
    """Of the dashboard and the alerts."""
    panels = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    return [*panels, *(rule["expr"] for group in groups for rule in group["rules"])]


@cache
def exported() -> set[str]:
    """Names of metrics: ours, and those that Ray's own dashboards ask for."""
    from ray.dashboard.modules.metrics.dashboards import default_dashboard_panels

    theirs = Path(str(default_dashboard_panels.__file__)).read_text()
    return {f"ray_{name}" for name in METRICS} | set(re.findall(r"\b(?:ray|autoscaler)_\w+", theirs))


def test_every_query_asks_for_metrics_that_are_exported() -> None:
    asked = {name for query in queries() for name in re.findall(r"\b(?:ray|autoscaler)_\w+", query)}
    assert asked - exported() == set()
    assert {f"ray_{name}" for name in METRICS} <= asked


def parses(expressions: list[str]) -> bool:
    """Whether Prometheus would take them. The parser is in the environment that also has kubernetes-validate."""
    python = Path(tool("kubernetes-validate")).parent / "python"
    code = "import json, sys, promql_parser\nfor one in json.load(sys.stdin): promql_parser.parse(one)"
    done = subprocess.run([str(python), "-c", code], input=json.dumps(expressions), text=True, capture_output=True)
    assert "ModuleNotFoundError" not in done.stderr
    return done.returncode == 0


def test_every_query_is_promql() -> None:
    assert parses([query.replace("$run", ".+") for query in queries()])
    assert not parses(["sum by (run) (ray_diffusion_step"])


def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)


def test_promtool_takes_the_configuration_and_rejects_a_planted_error(tmp_path: Path) -> None:
    promtool = tool("promtool")
    assert run(promtool, "check", "config", FOLDER / "prometheus.yml").returncode == 0
    bad = tmp_path / "prometheus.yml"
    text = (FOLDER / "prometheus.yml").read_text().replace("alerts.yaml", str(FOLDER / "alerts.yaml"))
    bad.write_text(text.replace("scrape_interval", "scrap_interval"))
    assert run(promtool, "check", "config", bad).returncode == 1


def test_the_alert_tells_a_training_that_stands_still(tmp_path: Path) -> None:
    promtool = tool("promtool")
    summary = "run {} has done no step for a quarter of an hour"
    series = [
        {"series": 'ray_diffusion_step{run="moves"}', "values": "0+10x60"},
        {"series": 'ray_diffusion_step{run="stands"}', "values": "0+10x20 200x40"},
    ]
    fired = {"exp_labels": {"severity": "warning", "run": "stands"}}
    fired["exp_annotations"] = {
        "summary": summary.format("stands"),
        "description": (
            "It may be saving its last checkpoint, or wait for workers. The log of the train stage says which."
        ),
    }
    alert = {"alertname": "TrainingStandsStill"}
    tests = [
        {
            "interval": "1m",
            "input_series": series,
            "alert_rule_test": [
                alert | {"eval_time": "30m", "exp_alerts": []},
                alert | {"eval_time": "50m", "exp_alerts": [fired]},
            ],
        }
    ]
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(FOLDER / "alerts.yaml")], "tests": tests}))
    done = run(promtool, "test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rays_own_dashboards_are_written(tmp_path: Path) -> None:
    done = run(sys.executable, FOLDER / "ray_dashboards.py", tmp_path)
    assert done.returncode == 0, done.stderr
    titles = {json.loads(path.read_text())["title"] for path in tmp_path.glob("*.json")}
    assert len(titles) == 2


def test_the_pod_monitor_asks_for_a_port_that_the_pods_have() -> None:
    monitor = yaml.safe_load((FOLDER / "pod-monitor.yaml").read_text())
    port = monitor["spec"]["podMetricsEndpoints"][0]["port"]
    spec = yaml.safe_load((INFRA / "kuberay" / "cluster" / "raycluster.yaml").read_text())["spec"]
    pods = [spec["headGroupSpec"]["template"], spec["workerGroupSpecs"][0]["template"]]
    for pod in pods:
        assert port in {one["name"] for one in pod["spec"]["containers"][0]["ports"]}


@pytest.mark.parametrize("name", ["datasource", "dashboards"])
def test_provisioning_has_the_version_that_grafana_reads(name: str) -> None:
    assert yaml.safe_load((FOLDER / "grafana" / f"{name}.yaml").read_text())["apiVersion"] == 1
