import copy

import numpy as np
import pytest

from diffusion.training.batches import Batches


def whole_batch(batches: Batches, step: int) -> list[int]:
    return np.concatenate([batches.indices(step, v) for v in range(batches.shards)]).tolist()


def test_each_epoch_shows_each_image_once() -> None:
    batches = Batches(images=24, batch_size=16, shards=4, seed=0)
    seen = [i for step in range(6) for i in whole_batch(batches, step)]  # 96 images = 4 epochs
    epochs = [seen[24 * e : 24 * (e + 1)] for e in range(4)]
    assert all(sorted(epoch) == list(range(24)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


@pytest.mark.parametrize("shards", [1, 2, 8, 16])
def test_the_cut_into_shards_does_not_change_the_batch(shards: int) -> None:
    whole, cut = Batches(50, 16, 1, seed=3), Batches(50, 16, shards, seed=3)
    for step in (0, 2, 3, 1000):
        assert whole_batch(cut, step) == whole_batch(whole, step)


def test_a_batch_runs_from_one_epoch_into_the_next() -> None:
    batches = Batches(images=10, batch_size=8, shards=1, seed=0)
    first, second = whole_batch(batches, 0), whole_batch(batches, 1)
    assert sorted(first + second[:2]) == list(range(10))
    assert len(second) == 8


def test_a_step_can_be_asked_for_without_those_before() -> None:
    walked, jumped = Batches(50, 16, 4, seed=1), Batches(50, 16, 4, seed=1)
    for step in range(40):
        whole_batch(walked, step)
    assert whole_batch(jumped, 40) == whole_batch(walked, 40)
    assert whole_batch(walked, 0) == whole_batch(jumped, 0)


def test_the_seed_changes_the_order() -> None:
    assert whole_batch(Batches(50, 16, 4, seed=1), 0) != whole_batch(Batches(50, 16, 4, seed=2), 0)


def test_fewer_images_than_a_batch() -> None:
    with pytest.raises(ValueError, match=r"10 training images.*train\.batch_size is 16; lower it to 10"):
        Batches(images=10, batch_size=16, shards=4, seed=0)


def test_a_batch_that_cannot_be_cut() -> None:
    with pytest.raises(ValueError, match=r"batch_size \(18\) must be a multiple of virtual_shards \(4\)"):
        Batches(images=50, batch_size=18, shards=4, seed=0)


def test_a_copy_for_another_process_goes_without_the_permutations() -> None:
    batches = Batches(50, 16, 4, seed=1)
    wanted = whole_batch(batches, 2)
    sent = copy.copy(batches)  # by the same protocol
    assert sent == batches
    assert (len(batches._cache), len(sent._cache)) == (1, 0)
    assert whole_batch(sent, 2) == wanted
