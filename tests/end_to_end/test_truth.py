"""Verdicts where the truth is known: more training is seen, and two halves of the seeds of one recipe are alike."""

import json

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

HALVES = """
import json
from pipelines.comparison.side_by_side import Column, Entry, blocks
from pipelines.params import load_params
from pipelines.settings import load_settings
from pipelines.tracking.fetch import known_versions
from pipelines.tracking.measurements import measurements
settings = load_settings()
entries = [Entry(v, measurements(v, settings)) for v in known_versions(settings, "ddpm-digits")[:6]]
halves = [Column("first", tuple(entries[::2])), Column("second", tuple(entries[1::2]))]
found = blocks(halves, "first", by_recipe=True)
said = {metric.name: cells["second"].verdict for block in found for metric, cells in block.rows}
print(json.dumps({name: str(verdict) for name, verdict in said.items()}))
"""


@pytest.fixture(scope="module")
def trained(tiny):
    """Versions 1 to 6 are six seeds of one recipe, 7 and 8 the same with 1,000 and 4,000 steps."""
    tiny.set(evaluate__images="null", sample__count="256", train__learning_rate="0.002")
    for seed in range(6):
        tiny.set(seed=str(seed), train__steps="100")
        tiny.run("dvc", "repro")
    for steps in ("1000", "4000"):
        tiny.set(train__steps=steps)
        tiny.run("dvc", "repro", PIPELINES__CHECKPOINT__EVERY_STEPS="500")
    return tiny


def test_more_steps_are_better(trained):
    printed = trained.python("-m", "pipelines.compare", "7", "8", "--against", "7", "--format", "csv").text
    total = next(line for line in printed.splitlines() if line.startswith("bits_per_dim.total,8"))
    assert ",better," in total


def test_two_halves_of_one_recipe_are_not_told_apart(trained):
    said = json.loads(trained.python("-c", HALVES).text.splitlines()[-1])
    assert said["bits_per_dim.total"].startswith("not distinguishable")
    assert said["fd_classifier.value"].startswith("not distinguishable")
    by_recipe = trained.python("-m", "pipelines.compare", "--by", "recipe", "--format", "csv").text
    assert "A (1, 2, 3, 4, 5, 6)" in by_recipe
