"""What a level remembers on the way down and reads on the way up."""

import torch
from torch import Tensor, nn

from diffusion.models.attention import SelfAttention
from diffusion.models.blocks import ResidualBlock
from diffusion.models.levels import AttentiveBlock, DownLevel, UpLevel


class Count(nn.Module):
    """Stands in for a block: adds the condition."""

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return x + condition


class Digits(nn.Module):
    """Stands in for a block of the way up: ten times its input and the remembered map, beside each other."""

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h, skip = x.chunk(2, dim=1)
        return 10 * h + skip + condition


class Half(nn.Module):
    """Stands in for the change of resolution."""

    def forward(self, x: Tensor) -> Tensor:
        return x / 2


def number(value: float) -> Tensor:
    return torch.full((1, 1, 1, 1), value)


def numbers(maps: list[Tensor]) -> list[float]:
    return [m.item() for m in maps]


def test_going_down_each_block_and_the_halving_are_remembered() -> None:
    skips = [number(0.0)]
    out = DownLevel([Count(), Count()], Half())(number(0.0), number(4.0), skips)
    assert numbers(skips) == [0.0, 4.0, 8.0, 4.0]
    assert out.item() == 4.0


def test_the_lowest_level_is_not_halved() -> None:
    skips: list[Tensor] = []
    assert DownLevel([Count()], None)(number(1.0), number(1.0), skips).item() == 2.0
    assert numbers(skips) == [2.0]


def test_going_up_each_block_reads_the_last_remembered_map() -> None:
    skips = [number(7.0), number(3.0), number(2.0)]
    assert UpLevel([Digits(), Digits()], None)(number(1.0), number(0.0), skips).item() == 123.0
    assert numbers(skips) == [7.0]


def test_the_resolution_changes_after_the_blocks() -> None:
    assert UpLevel([Digits()], Half())(number(1.0), number(0.0), [number(2.0)]).item() == 6.0


def test_attention_follows_the_residual_block() -> None:
    torch.manual_seed(0)
    residual, attention = ResidualBlock(4, 8, 6, 0.0), SelfAttention(8)
    nn.init.normal_(attention.projection.weight)
    x, condition = torch.randn(1, 4, 3, 3), torch.randn(1, 6)
    plain = AttentiveBlock(residual, None)(x, condition)
    assert torch.equal(plain, residual(x, condition))
    assert torch.equal(AttentiveBlock(residual, attention)(x, condition), attention(plain))
