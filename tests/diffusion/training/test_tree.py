import pytest
import torch
from torch import Tensor

from diffusion.training.tree import Shares, TreeSum


def leaves(V: int) -> list[Tensor]:
    """Values of very different size, so that the order of a sum changes its bits."""
    source = torch.Generator().manual_seed(V)
    return [torch.randn(1000, generator=source) * 10.0 ** (v % 5 - 2) for v in range(V)]


def nested(parts: list[Tensor]) -> Tensor:
    """The definition: the sum of the two halves' sums."""
    half = len(parts) // 2
    return parts[0] if len(parts) == 1 else nested(parts[:half]) + nested(parts[half:])


@pytest.mark.parametrize("V", [1, 2, 4, 8, 32])
def test_one_worker_sums_in_the_fixed_tree(V: int) -> None:
    parts = leaves(V)
    shares = Shares(V)
    buffers = [torch.empty(1000) for _ in range(shares.buffers)]
    assert len(buffers) == V.bit_length()
    total = TreeSum(shares, 0, buffers)
    for _ in range(2):  # buffers are used again
        total(lambda v, i: buffers[i].copy_(parts[v]))
        assert torch.equal(buffers[0], nested(parts))


def test_the_order_matters_for_these_leaves() -> None:
    parts = leaves(8)
    assert not torch.equal(nested(parts), sum(parts[1:], parts[0]))
    assert not torch.equal(nested(parts), nested(parts[::-1][1:] + parts[-1:]))


@pytest.mark.parametrize("V", [1, 2, 8, 64])
def test_every_leaf_has_one_owner(V: int) -> None:
    for workers in range(1, V + 1):
        shares = Shares(V, workers)
        owned = [v for rank in range(workers) for v in shares.of(rank)]
        assert owned == list(range(V))
        assert all(v in shares.of(shares.owner(v)) for v in range(V))
        sizes = {len(shares.of(rank)) for rank in range(workers)}
        assert max(sizes) - min(sizes) <= 1


def test_more_workers_than_shards() -> None:
    with pytest.raises(ValueError, match="8 virtual shards can be shared by 1 to 8 workers, got 9"):
        Shares(8, 9)


def test_shards_must_be_a_power_of_two() -> None:
    with pytest.raises(ValueError, match="power of two, got 6"):
        Shares(6)


def test_too_few_buffers() -> None:
    with pytest.raises(ValueError, match="needs 4 buffers, got 1"):
        TreeSum(Shares(8), 0, [torch.empty(1)])
