"""Self-attention against softmax(q k' / sqrt(d)) v, written out."""

import pytest
import torch
from torch import Tensor

from diffusion.models.attention import SelfAttention


def awake(channels: int, heads: int) -> SelfAttention:
    generator = torch.Generator().manual_seed(0)
    attention = SelfAttention(channels, heads).double()
    for parameter in attention.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / channels**0.5
    return attention


def written_out(attention: SelfAttention, image: Tensor) -> Tensor:
    """One image (C, H, W), position by position and head by head."""
    c, height, width = image.shape
    x = image.reshape(c, -1).T  # (P, C)
    normed = attention.norm(image[None])[0].reshape(c, -1).T
    q, k, v = (
        normed @ w.T + b for w, b in zip(attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3), strict=True)
    )
    d = c // attention.heads
    rows = []
    for p in range(len(x)):
        heads = []
        for h in range(attention.heads):
            part = slice(h * d, (h + 1) * d)
            score = torch.stack([q[p, part].dot(k[other, part]) / d**0.5 for other in range(len(x))])
            weight = score.exp() / score.exp().sum()
            heads.append(sum(weight[other] * v[other, part] for other in range(len(x))))
        rows.append(x[p] + attention.projection.weight @ torch.cat(heads) + attention.projection.bias)
    return torch.stack(rows).T.reshape(c, height, width)


@pytest.mark.parametrize("heads", [1, 2, 8])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_it_is_the_softmax_formula(heads: int, memory_format: torch.memory_format) -> None:
    attention = awake(8, heads)
    x = torch.randn(2, 8, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    got = attention(x.contiguous(memory_format=memory_format))
    expected = torch.stack([written_out(attention, image) for image in x])
    assert torch.allclose(got, expected, rtol=0, atol=1e-12)


def test_untrained_it_is_the_identity() -> None:
    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(SelfAttention(8, 2)(x), x)


def test_permuted_positions_give_the_permuted_result() -> None:
    attention = awake(8, 2)
    x = torch.randn(1, 8, 1, 12, dtype=torch.float64)
    order = torch.randperm(12)
    assert torch.allclose(attention(x[..., order]), attention(x)[..., order], rtol=0, atol=1e-12)


def test_heads_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="8 channels cannot be cut into 3 heads"):
        SelfAttention(8, 3)
