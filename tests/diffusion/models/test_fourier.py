"""Fourier features of the input, and the networks that read them or say a variance."""

from math import cos, pi, sin

import pytest
import torch

from diffusion.models import UNet
from diffusion.models.fourier import fourier_features


def test_features_by_hand() -> None:
    x = torch.tensor([0.1, -0.3]).view(1, 2, 1, 1)
    found = fourier_features(x, [0, 3]).flatten().tolist()
    waves = [f(2**n * pi * v) for n in (0, 3) for f in (sin, cos) for v in (0.1, -0.3)]
    assert found == pytest.approx([0.1, -0.3, *waves], abs=1e-5)
    assert fourier_features(x, []) is x


def test_of_17_levels_the_fourth_wave_is_the_same_on_each() -> None:
    """Its period is the distance of two levels, so a pixel on its level shows sine 0 and cosine 1."""
    levels = torch.linspace(-1, 1, 17, dtype=torch.float64).view(17, 1, 1, 1)
    _, sine, cosine = fourier_features(levels, [4]).unbind(dim=1)
    torch.testing.assert_close(sine, torch.zeros_like(sine), atol=1e-12, rtol=0)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


def test_only_the_first_convolution_is_wider() -> None:
    plain, with_waves = UNet(8, 3, 8, (1,), blocks=1), UNet(8, 3, 8, (1,), blocks=1, fourier_features=(1, 4))
    shapes = [{name: p.shape for name, p in net.named_parameters()} for net in (plain, with_waves)]
    assert [name for name in shapes[0] if shapes[0][name] != shapes[1][name]] == ["head.weight"]
    assert shapes[1]["head.weight"] == (8, 15, 3, 3)
    assert with_waves(torch.zeros(2, 3, 8, 8), torch.tensor([1, 2])).shape == (2, 3, 8, 8)


def test_a_learned_variance_doubles_the_channels_that_come_out() -> None:
    net = UNet(8, 3, 8, (1,), blocks=1, learned_variance=True)
    output = net(torch.zeros(2, 3, 8, 8), torch.tensor([1, 2]))
    assert output.shape == (2, 6, 8, 8)
    assert (output == 0).all()  # untrained: no noise, and a variance half-way between the fixed ones


@pytest.mark.parametrize(("exponents", "message"), [((11,), "in 0..10, got 11"), ((3, 3), "each exponent once")])
def test_exponents_that_cannot_be(exponents: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNet(8, 1, 8, (1,), blocks=1, fourier_features=exponents)
