"""The files that people edit fit the typed models that read them."""

import os
from pathlib import Path

import pytest

from pipelines.params import json_schema, load_params, read_yaml
from pipelines.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PRESETS = sorted(path.name for path in (ROOT / "presets").glob("*.yaml"))


def test_the_parameters_are_those_of_the_default_preset(project):
    assert read_yaml(project.root / "params.yaml") == read_yaml(project.root / "presets" / "digits.yaml")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_valid(project, preset):
    load_params(project.root / "presets" / preset)


def test_the_presets_that_are_promised_exist():
    assert {"digits.yaml", "cifar10.yaml"} <= set(PRESETS)


def test_the_schema_for_editors_is_that_of_the_models(project):
    assert project.text("params.schema.json") == json_schema(), (
        "python -m pipelines.params --schema > params.schema.json"
    )


def test_the_cluster_file_is_valid_and_has_every_section(project, monkeypatch):
    for variable in [name for name in os.environ if name.startswith("PIPELINES__")]:
        monkeypatch.delenv(variable)
    content = read_yaml(project.root / "infra" / "cluster.yaml")
    Settings(**content)
    assert content.keys() == Settings.model_fields.keys()
