"""When workers that die are replaced, and when not."""

import pytest

from pipelines.cluster.patience import Patience


def test_failures_count_until_a_checkpoint_is_saved() -> None:
    patience = Patience(failures=2, same_step=9)
    assert patience.after(3, saved=False) is None
    assert patience.after(4, saved=False) is None
    assert patience.after(9, saved=True) is None
    assert patience.count == 1
    assert patience.after(12, saved=False) is None
    reason = patience.after(13, saved=False)
    assert reason is not None
    assert "died 3 times without a new checkpoint in between, the last time in step 13" in reason
    assert "(ray.max_failures is 2)" in reason


@pytest.mark.parametrize(("step", "where"), [(7, "in step 7"), (None, "before their first step")])
def test_the_same_step_again_and_again_is_no_chance(step: int | None, where: str) -> None:
    """Also where checkpoints are saved before it each time."""
    patience = Patience(failures=9, same_step=3)
    assert patience.after(5, saved=True) is None
    assert patience.after(step, saved=True) is None
    assert patience.after(step, saved=True) is None
    reason = patience.after(step, saved=True)
    assert reason is not None
    assert f"died 3 times in a row {where}, which is no chance" in reason


def test_no_replacement_at_all() -> None:
    assert Patience(failures=0, same_step=3).after(1, saved=False) is not None
