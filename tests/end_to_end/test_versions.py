"""The registry as a person uses it: compare, measure again, promote, adopt. In order, on one tiny project."""

import json
import shutil

import pytest

from tests.pipelines.stage_inputs import saved_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

WITH_FIXED_VARIANCE = ("-S", "evaluate.variance=small", "-S", "sample.variance=small")


@pytest.fixture(scope="module")
def two(tiny):
    """A project with two versions whose bounds were measured in different ways."""
    tiny.run("dvc", "repro")
    tiny.set(train__steps="40", evaluate__first_time="2")
    tiny.run("dvc", "repro")
    return tiny


def test_other_cards_are_refused_until_both_are_measured_in_one_way(two):
    assert (
        "not comparable with champion 1, measured with another first_time"
        in two.json("results/register/receipt.json")["decision"]
    )
    refused = two.python("-m", "pipelines.compare", "1", "2", status=4).text
    assert "2 cannot be compared with 1 champion by bits_per_dim: another first_time" in refused
    assert "python -m pipelines.remeasure models:/ddpm-digits/1 models:/ddpm-digits/2" in refused
    again = two.python("-m", "pipelines.remeasure", "1", "2").text
    assert "version 1: bound" in again
    assert "version 2: was measured so already" in again
    compared = two.python("-m", "pipelines.compare", "1", "2", "--format", "csv", status=0).text
    assert "bits_per_dim.total,2," in compared
    assert two.python("-m", "pipelines.remeasure", "1").text.splitlines()[-1].endswith("was measured so already")


def test_a_person_promotes_and_rolls_back(two):
    assert (
        "version 2 is champion; version 1 is `previous`"
        in two.python("-m", "pipelines.promote", "2", "--reason", "longer").text
    )
    two.python("-m", "pipelines.promote", "--rollback", "--reason", "it was not")
    history = two.python("-m", "pipelines.promote", "--history").text.splitlines()
    assert [line.split("  ")[1] for line in history] == [
        "version 1 after none, by the gate: the first version",
        "version 2 after 1, by the person: longer",
        "version 1 after 2, by the person: it was not",
    ]


def test_a_model_from_elsewhere_is_measured_and_registered(two):
    saved_model(two.folder / "models/foreign", T=20, scale=0.3)
    refused = two.python("-m", "pipelines.adopt", "models/foreign", status=1).text
    assert "variance" in refused
    assert "Traceback" not in refused
    adopted = two.python("-m", "pipelines.adopt", "models/foreign", *WITH_FIXED_VARIANCE).text
    assert "registered ddpm-digits version 3; not champion" in adopted
    two.python("-m", "pipelines.adopt", "models/foreign", *WITH_FIXED_VARIANCE)
    versions = two.python("-m", "pipelines.compare", "--format", "csv", status=4).text
    assert "bits_per_dim.total,3," in versions
    assert "bits_per_dim.total,4," not in versions


def test_the_pages(two):
    two.python("-m", "pipelines.compare", "--out", "all.html", status=4)
    two.python("-m", "pipelines.report", "2", "--out", "card.html")
    for name in ("all.html", "card.html"):
        page = (two.folder / name).read_text()
        assert page.count("<img") >= 2
        assert len(page) < 5_000_000


def test_files_that_were_changed_in_the_registry_are_not_used(two):
    """Means with errors are still compared; what was read before on this machine is kept, verified."""
    shutil.rmtree(two.folder / ".state/registry")
    for table in (two.folder / ".state/mlflow/artifacts").rglob("per_image.parquet"):
        table.write_bytes(b"PAR1" + table.read_bytes()[4:-8] + b"\0" * 4 + b"PAR1")
    printed = two.python("-m", "pipelines.compare", "1", "2", "--format", "csv", status=0).text
    total = next(line for line in printed.splitlines() if line.startswith("bits_per_dim.total,2"))
    assert total.endswith(",")  # no pairs


def test_what_does_not_exist_is_listed(two):
    assert "no version 9; there are 1, 2, 3" in two.python("-m", "pipelines.compare", "9", status=1).text
    other = two.python("-m", "pipelines.compare", "--name", "nothing", status=1).text
    assert "the registry has no versions of nothing; it has ddpm-digits" in other
    assert json.loads((two.folder / "results/register/receipt.json").read_text())["version"] == 2
