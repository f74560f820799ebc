"""The way from one noise to another."""

import pytest
import torch

from diffusion.drawing import between, start_of


def test_it_begins_and_ends_at_the_seeds_noises_and_is_standard_normal_all_the_way() -> None:
    way = between((1, 2), range(400), (1, 8, 8), 5)
    assert way.shape == (400, 5, 1, 8, 8)
    assert torch.equal(way[:, 0], start_of(1, range(400), (1, 8, 8)))
    assert torch.equal(way[:, -1], start_of(2, range(400), (1, 8, 8)))
    n = way[:, 0].numel()
    for place in way.unbind(1):
        assert abs(place.var().item() - 1) < 4 * (2 / n) ** 0.5
    half = (way[:, 0] + way[:, -1]) / 2**0.5
    torch.testing.assert_close(way[:, 2], half)


def test_one_place_is_no_way() -> None:
    with pytest.raises(ValueError, match="2 places or more, got 1"):
        between((1, 2), range(3), (1, 8, 8), 1)
