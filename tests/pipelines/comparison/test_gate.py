"""Each demand of the gate: what passes it, what does not, and what it says."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.comparison.gate import Champion, Decision, decide
from pipelines.comparison.measurement import Measurement
from pipelines.errors import TrackingError
from pipelines.sections import GateParams
from tests.pipelines.comparison.made_up import measurement


@pytest.fixture
def champion(tmp_path: Path) -> Champion:
    return Champion(3, [measurement(tmp_path / "champion", 2.0, noise=1)])


def decided(of: Measurement, champion: Champion | None, speed: float | None = None, **demands: object) -> Decision:
    sampling = {} if speed is None else {"per_second": speed}
    return decide(replace(of, sampling=sampling), champion, GateParams.model_validate(demands))


def test_the_first_version_meets_the_absolute_demands_alone() -> None:
    assert decided(measurement(), None) == Decision(True, None, decided(measurement(), None).checks)
    assert decided(measurement(), None).reason == "the first version"
    few = decided(measurement(), None, min_samples=1000)
    assert not few.champion
    assert few.reason == "400 samples, register.gate.min_samples is 1,000"
    broken = measurement()
    broken.content["bits_per_dim"]["L_0"] = float("nan")
    assert decided(broken, None).reason == "not finite: bits_per_dim.L_0"
    assert not decided(measurement(), None, min_speed=2.0).champion
    assert not decided(measurement(), None, speed=1.0, min_speed=2.0).champion
    assert decided(measurement(), None, speed=3.0, min_speed=2.0).champion


def test_the_bound(champion: Champion, tmp_path: Path) -> None:
    better = measurement(tmp_path / "better", 1.9, noise=2)
    same = measurement(tmp_path / "same", 1.999, noise=3)
    worse = measurement(tmp_path / "worse", 2.1, noise=4)

    def passed(bound: str, **more: object) -> list[bool]:
        return [decided(m, champion, bound=bound, **more).champion for m in (better, same, worse)]

    assert passed("better") == [True, False, False]
    assert passed("not_worse") == [True, True, False]
    assert passed("off") == [True, True, True]
    assert passed("better", min_gain=0.2) == [False, False, False]
    (numbers,) = [check.numbers for check in decided(better, champion, min_gain=0.08).checks if check.name == "bound"]
    assert numbers is not None
    assert (numbers["difference"], numbers["gain"]) == (pytest.approx(-0.1), 0.08)  # as found, not as demanded
    assert passed("better", min_gain=0.08) == [True, False, False]
    found = decided(better, champion)
    assert (found.against, found.comparable) == (3, True)
    assert found.reason.startswith("bits/dim 1.9 against 2 of champion 3: better (P > 99.9%)")


def test_the_distance(champion: Champion, tmp_path: Path) -> None:
    better = measurement(tmp_path / "better", 1.9, noise=2, distance=2.0)
    same = measurement(tmp_path / "same", 1.9, noise=3, distance=3.4)
    worse = measurement(tmp_path / "worse", 1.9, noise=4, distance=6.0)
    for demand, wanted in (("better", [True, False, False]), ("not_worse", [True, True, False]), ("off", [True] * 3)):
        assert [decided(m, champion, distance=demand).champion for m in (better, same, worse)] == wanted
    assert decided(worse, champion).reason.startswith("fd_classifier 6 against 3.5 of champion 3: worse")


def test_no_weaker_test_is_taken_where_the_tables_are_away(champion: Champion) -> None:
    with pytest.raises(TrackingError, match="gone"):
        decided(measurement(total=1.9), champion)


def test_what_cannot_be_compared_does_not_pass(champion: Champion, tmp_path: Path) -> None:
    other = decided(measurement(tmp_path / "o", 1.0, bound_card={"first_time": 8}), champion)
    assert not other.champion
    assert not other.comparable
    assert other.reason == "bits_per_dim: not comparable with champion 3, measured with another first_time"
    assert other.measurable
    longer = decided(measurement(tmp_path / "l", 1.0, bound_card={"times": 4000}), champion)
    assert not longer.measurable
    assert longer.reason == (
        "bits_per_dim: not comparable with champion 3, measured with another times (no measurement brings these "
        "together: times follows from the model)"
    )
    unmeasured = decided(measurement(), Champion(3, []))
    assert "champion 3 has none to compare with" in unmeasured.reason
    assert decided(measurement(), Champion(3, []), bound="off", distance="off").champion
