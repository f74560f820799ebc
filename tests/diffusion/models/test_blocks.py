"""The convolutional parts, against their formulas."""

from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion.models.blocks import Downsample, ResidualBlock, Upsample
from diffusion.models.layers import group_count, group_norm, silent

Part = TypeVar("Part", bound=nn.Module)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unbiased(module: Part) -> Part:
    """The module with all offsets at zero."""
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    return module


class TestResidualBlock:
    def test_untrained_it_is_its_shortcut(self) -> None:
        x, condition = normal(2, 8, 4, 4), normal(2, 16)
        assert torch.equal(ResidualBlock(8, 8, 16, 0.0)(x, condition), x)
        widening = unbiased(ResidualBlock(8, 12, 16, 0.0))
        weight = widening.shortcut.weight
        assert isinstance(weight, Tensor)
        assert weight.shape == (12, 8, 1, 1)
        expected = torch.einsum("oi,nihw->nohw", weight[:, :, 0, 0], x)
        assert torch.allclose(widening(x, condition), expected, atol=1e-6)

    def test_the_condition_moves_each_channel_before_the_second_norm(self) -> None:
        block = unbiased(ResidualBlock(4, 4, 2, 0.0))
        block.conv_1.weight.data.zero_()
        block.conv_2.weight.data = torch.eye(4)[:, :, None, None] * F.pad(torch.ones(1, 1), (1, 1, 1, 1))
        block.condition.weight.data = normal(4, 2)
        x, condition = normal(1, 4, 3, 3), normal(1, 2, seed=1)
        # With conv_1 silent the projection is all that is left; four channels are one group, constant in space.
        shift = (condition @ block.condition.weight.T)[0]
        normed = (shift - shift.mean()) / (shift.var(correction=0) + 1e-6).sqrt()
        expected = x + (normed * normed.sigmoid())[None, :, None, None]
        assert torch.allclose(block(x, condition), expected, atol=1e-5)

    def test_it_is_its_formula(self) -> None:
        def activated(x: Tensor) -> Tensor:
            # four channels are one group, normalised over channels and positions of each image
            mean, variance = x.mean((1, 2, 3), keepdim=True), x.var((1, 2, 3), correction=0, keepdim=True)
            normed = (x - mean) / (variance + 1e-6).sqrt()
            return normed * normed.sigmoid()

        block = ResidualBlock(4, 4, 5, 0.0)
        nn.init.normal_(block.conv_2.weight, std=0.3)
        x, condition = 3 * normal(2, 4, 3, 3) + 1, normal(2, 5, seed=1)
        h = F.conv2d(activated(x), block.conv_1.weight, block.conv_1.bias, padding=1)
        h = h + (condition @ block.condition.weight.T + block.condition.bias)[:, :, None, None]
        expected = x + F.conv2d(activated(h), block.conv_2.weight, block.conv_2.bias, padding=1)
        assert torch.allclose(block(x, condition), expected, atol=1e-5)


class TestResampling:
    def test_downsample_reads_each_2x2_square_and_the_pixels_after_it(self) -> None:
        layer = unbiased(Downsample(1))
        layer.conv.weight.data = torch.arange(9.0).reshape(1, 1, 3, 3)
        x = torch.zeros(1, 1, 4, 4)
        x[0, 0, 2, 1] = 1.0
        # Output (i, j) weighs pixel (2 i + a, 2 j + b) by weight (a, b): pixel (2, 1) is a = 2, b = 1 for (0, 0) and
        # a = 0, b = 1 for (1, 0).
        assert layer(x)[0, 0].tolist() == [[7.0, 0.0], [1.0, 0.0]]

    def test_upsample_repeats_each_pixel_2x2(self) -> None:
        layer = unbiased(Upsample(1))
        layer.conv.weight.data = F.pad(torch.ones(1, 1, 1, 1), (1, 1, 1, 1))
        x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
        assert layer(x)[0, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]


class TestLayers:
    @pytest.mark.parametrize(
        ("channels", "groups"),
        [(512, 32), (384, 32), (256, 32), (160, 32), (128, 32), (144, 24), (96, 24), (64, 16), (48, 12), (32, 8)],
    )
    def test_groups_are_at_most_32_and_have_four_channels_or_more(self, channels: int, groups: int) -> None:
        assert group_count(channels) == groups
        assert group_norm(channels).num_groups == groups

    @pytest.mark.parametrize(("channels", "groups"), [(10, 2), (8, 2), (6, 1), (4, 1), (2, 1), (1, 1), (97, 1)])
    def test_groups_of_few_or_odd_channels(self, channels: int, groups: int) -> None:
        assert group_count(channels) == groups
        assert group_norm(channels).num_groups == groups

    def test_a_silent_layer_is_zero(self) -> None:
        for layer in (silent(nn.Conv2d(4, 4, 3)), silent(nn.Linear(4, 4))):
            assert not any(parameter.any() for parameter in layer.parameters())
