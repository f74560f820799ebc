"""What a sweep says of its versions: ranked where they were measured alike, and not otherwise."""

from rich.console import Console

from pipelines.params import load_params
from pipelines.settings import Settings
from pipelines.sweeping.place import Outcome
from pipelines.sweeping.report import Row, grouped, measured, table
from pipelines.sweeping.space import Trial
from tests.pipelines.comparison.made_up import measurement


def row(version, found):
    return Row(Trial({"seed": version}, load_params()), Outcome("m", version), found)


def text(group, *, flat=False):
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table(group))
    return " ".join(captured.get().split()) if flat else captured.get()


def test_only_what_was_measured_alike_is_ranked_together(tmp_path):
    other = {"images": 10}
    rows = [
        row(1, measurement(tmp_path / "1", 2.1, noise=1)),
        row(2, measurement(tmp_path / "2", 1.5, noise=2, bound_card=other)),
        row(3, measurement(tmp_path / "3", 2.0, noise=3)),
        row(4, measurement(tmp_path / "4", 2.0001, noise=4)),
    ]
    first, second = grouped(rows)
    assert [each.outcome.version for each in first.rows] == [3, 4, 1]
    assert [each.outcome.version for each in second.rows] == [2]
    lines = text(first).splitlines()
    assert [sum(sign in line for line in lines[3:6]) for sign in ("best", "≈")] == [1, 1]
    assert "measured otherwise, images 10" in text(second)
    assert "best" in text(second)


def test_a_distance_that_was_drawn_otherwise_is_marked_and_the_field_named():
    steps = {"samples": {"sampler": "ancestral", "steps": 10, "seed": 0}}
    (group,) = grouped([row(1, measurement(total=2.0)), row(2, measurement(total=2.1, distance_card=steps))])
    said = text(group, flat=True)
    assert said.count("?") == 2
    assert "? not to be compared with the first line's fd_classifier: samples.steps" in said


def test_a_version_without_a_measurement_is_told(monkeypatch):
    from pipelines.tracking.registry import Version

    monkeypatch.setattr("pipelines.tracking.fetch.known_versions", lambda *_: [Version("m", 7, (), 0, "r", {})])
    outcome = Outcome("m", 7)
    assert measured([(Trial({}, load_params()), outcome)], Settings()) == ([], [outcome])
