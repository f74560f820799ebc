from dataclasses import replace

import torch
from torch import Tensor

from diffusion.training.draws import draw, mirror, seed_dropout
from diffusion.training.minibatch import Minibatch, Minibatches
from diffusion.training.objective import Objective

SHAPE = (64, 1, 8, 8)


def test_draws_are_a_function_of_seed_step_and_shard() -> None:
    torch.manual_seed(1)
    a = draw(0, 5, 2, shape=SHAPE, flip=True)
    torch.manual_seed(2)
    b = draw(0, 5, 2, shape=SHAPE, flip=True)
    assert a.flip is not None
    assert b.flip is not None
    assert torch.equal(a.eps, b.eps)
    assert torch.equal(a.flip, b.flip)
    for seed, step, shard in [(1, 5, 2), (0, 6, 2), (0, 5, 3), (0, 2, 5)]:
        assert not torch.equal(draw(seed, step, shard, shape=SHAPE, flip=True).eps, a.eps)


def test_half_of_the_images_are_mirrored_and_flips_change_nothing_else() -> None:
    without, with_flips = (draw(0, 0, 0, shape=(10_000, 1, 1, 1), flip=flip) for flip in (False, True))
    assert without.flip is None
    assert torch.equal(without.eps, with_flips.eps)
    assert with_flips.flip is not None
    assert abs(int(with_flips.flip.sum()) - 5000) < 4 * 50


def test_mirror() -> None:
    images = torch.tensor([[[[1.0, 2.0]]], [[[3.0, 4.0]]]])
    mirrored = mirror(images, torch.tensor([False, True]))
    assert mirrored.flatten(1).tolist() == [[1.0, 2.0], [4.0, 3.0]]
    assert mirror(images, None) is images


def test_dropout_is_a_function_of_seed_step_and_shard() -> None:
    def mask(*position: int) -> Tensor:
        seed_dropout(*position)
        return torch.nn.functional.dropout(torch.ones(1000))

    assert torch.equal(mask(0, 1, 2), mask(0, 1, 2))
    for other in [(1, 1, 2), (0, 2, 2), (0, 1, 3), (0, 2, 1)]:
        assert not torch.equal(mask(0, 1, 2), mask(*other))


def test_neighbouring_shards_in_one_minibatch(minibatches: Minibatches) -> None:
    """As in fast mode: the same samples, flips, t and eps as alone."""
    joined = minibatches.of(3, range(1, 4))
    alone = [minibatches.of(3, [v]) for v in range(1, 4)]
    assert torch.equal(joined.x_0, torch.cat([part.x_0 for part in alone]))
    assert torch.equal(joined.t, torch.cat([part.t for part in alone]))
    assert torch.equal(joined.eps, torch.cat([part.eps for part in alone]))


def test_labels_follow_their_images(labelled_images: object, minibatches: Minibatches) -> None:
    labelled = replace(minibatches, images=labelled_images, labelled=True)  # type: ignore[arg-type]
    batch = labelled.of(2, [0, 1])
    assert batch.y is not None
    indices = [i for v in (0, 1) for i in minibatches.batches.indices(2, v).tolist()]
    assert batch.y.tolist() == [i % 10 for i in indices]
    first, second = batch.split(5)
    assert second.y is not None
    assert (len(first), second.y.tolist()) == (5, [i % 10 for i in indices[5:]])


def test_microbatches_add_up_to_the_shard(objective: Objective) -> None:
    whole = objective.parts(0, [1])
    parts = replace(objective, microbatch=3).parts(0, [1])
    assert [len(part) for part in parts] == [3, 1]
    assert torch.equal(Minibatch.joined(parts).eps, whole[0].eps)
