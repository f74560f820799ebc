"""What is said of two measurements: paired where images are shared, refused where cards differ."""

from pathlib import Path

import numpy as np
import pytest

from diffusion.evaluation import Difference
from pipelines.comparison.cards import differing_fields, field
from pipelines.comparison.metrics import Metric, metrics_of
from pipelines.comparison.verdict import Incomparable, Says, Verdict, judge, likely, matched, verdict_of
from pipelines.errors import TrackingError
from tests.pipelines.comparison.made_up import IMAGES, measurement


def named(name: str) -> Metric:
    return next(metric for metric in metrics_of([measurement()]) if metric.name == name)


def test_pairs_tell_apart_what_means_with_errors_cannot(tmp_path: Path) -> None:
    """Images differ by 0.4, the models by 0.02 at each: the difference of 0.03 is seen image by image only."""
    first, second = measurement(tmp_path / "a", 2.0, noise=1), measurement(tmp_path / "b", 1.97, noise=2)
    total = named("bits_per_dim.total")
    with_pairs = judge(total, first, second)
    assert isinstance(with_pairs, Verdict)
    assert (with_pairs.says, with_pairs.pairs) == (Says.BETTER, IMAGES)
    own = np.random.default_rng(2).normal(0, 0.02, IMAGES) - np.random.default_rng(1).normal(0, 0.02, IMAGES)
    assert with_pairs.difference.standard_error == pytest.approx(own.std(ddof=1) / IMAGES**0.5, rel=1e-9)
    backwards = judge(total, second, first)
    assert isinstance(backwards, Verdict)
    assert backwards.says is Says.WORSE
    without = judge(total, measurement(total=2.0), measurement(total=1.97), pairs=False)
    assert isinstance(without, Verdict)
    assert (without.says, without.pairs) == (Says.SAME, None)


def test_a_distance_is_judged_by_both_errors() -> None:
    """1.0 apart with an error of 0.2 each: 1 / 0.283 = 3.54 standard errors. Precision: more is better."""
    value = judge(named("fd_classifier.value"), measurement(distance=3.5), measurement(distance=2.5))
    assert isinstance(value, Verdict)
    assert value.says is Says.BETTER
    assert value.probability == pytest.approx(0.999796, abs=1e-6)
    worse = measurement()
    worse.content["fd_classifier"]["precision"] = 0.60  # sqrt(0.75 0.25 / 400 + 0.6 0.4 / 400) = 0.0327
    found = judge(named("fd_classifier.precision"), measurement(), worse)
    assert isinstance(found, Verdict)
    assert found.says is Says.WORSE
    assert found.difference.standard_error == pytest.approx(((0.1875 + 0.24) / 400) ** 0.5, rel=1e-12)
    assert judge(named("fd_classifier.recall"), measurement(), worse) is None  # it has no error


def test_other_cards_are_refused_and_other_seeds_devices_and_models_are_not() -> None:
    other = judge(named("bits_per_dim.total"), measurement(), measurement(bound_card={"first_time": 8, "split": "val"}))
    assert other == Incomparable(("first_time", "split"))
    assert "another first_time, split" in str(other)
    alike = {"seed": 5, "device": "cuda", "batch_size": 7, "model_digest": "f", "weights": "raw"}
    assert isinstance(
        judge(named("bits_per_dim.total"), measurement(), measurement(bound_card=alike), pairs=False), Verdict
    )
    with pytest.raises(TrackingError, match="gone"):
        judge(named("bits_per_dim.total"), measurement(), measurement())
    assert isinstance(
        judge(named("fd_classifier.value"), measurement(), measurement(bound_card={"split": "val"})), Verdict
    )
    assert differing_fields({"a": {"b": 1, "seed": 1}}, {"a": {"b": 2, "seed": 2}, "c": 0}) == ["a.b", "c"]
    assert [field({"a": {"b": 2}}, name) for name in ("a.b", "c", "a.b.c")] == [2, None, None]


def test_both_tails_count() -> None:
    """1.75 standard errors are 4% on one side, 2.0 are 2.3%: at 95% the second is a difference."""
    said = [[verdict_of(Difference(t, 1.0), good, 1.0).says for t in (1.75, 2.0, -2.0)] for good in (1, -1)]
    assert said == [[Says.SAME, Says.BETTER, Says.WORSE], [Says.SAME, Says.WORSE, Says.BETTER]]
    assert verdict_of(Difference(1.75, 1.0), 1, 1.0, level=0.9).says is Says.BETTER


def test_rounding_is_no_difference() -> None:
    """Whatever the error: two devices may differ by 1e-6 in each image, always in the same direction."""
    assert verdict_of(Difference(1e-6, 1e-9, 10), -1, 2.0).says is Says.SAME
    assert verdict_of(Difference(1e-4, 1e-9, 10), -1, 2.0).says is Says.WORSE


def test_the_newest_measurements_that_agree_are_taken() -> None:
    old, new = measurement(when=1), measurement(when=2, bound_card={"first_time": 8})
    other = measurement(when=3)
    assert matched("bits_per_dim", [new, old], [other]) == (old, other)
    assert matched("bits_per_dim", [new], [other]) == (new, other)  # to say how they differ
    assert matched("bits_per_dim", [old, newer := measurement(when=5)], [other]) == (newer, other)
    assert matched("fid", [new], [other]) is None


def test_a_probability_is_never_a_certainty() -> None:
    assert [likely(p) for p in (0.99999, 0.5, 0.00001)] == ["P > 99.9%", "P = 50.0%", "P < 0.1%"]
