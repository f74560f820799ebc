"""The sinusoidal embedding against its formula, by hand."""

from math import cos, sin

import pytest
import torch

from diffusion.models.embedding import TimeEmbedding, sinusoidal_embedding


def test_it_is_sines_then_cosines_with_periods_from_one_to_ten_thousand() -> None:
    # dimension 6: h = 3, w = 1, 10000^(-1/2) = 1/100, 10000^(-1) = 1/10000
    t = 250
    expected = [sin(250), sin(2.5), sin(0.025), cos(250), cos(2.5), cos(0.025)]
    got = sinusoidal_embedding(torch.tensor([t]), 6)
    assert got.shape == (1, 6)
    assert got[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_smallest_dimension() -> None:
    # dimension 4: h = 2, w = 1, 1/10000
    got = sinusoidal_embedding(torch.tensor([1, 1000]), 4)
    assert got[0].tolist() == pytest.approx([0.8414709848, 0.0001, 0.5403023059, 0.999999995], abs=1e-7)
    assert got[1].tolist() == pytest.approx([sin(1000), sin(0.1), cos(1000), cos(0.1)], abs=1e-6)


def test_time_zero() -> None:
    assert sinusoidal_embedding(torch.tensor([0]), 8)[0].tolist() == [0.0] * 4 + [1.0] * 4


def test_consecutive_frequencies_have_one_ratio() -> None:
    # sin(w t) / t -> w for small t: the frequencies themselves
    frequency = sinusoidal_embedding(torch.tensor([1e-3]), 128)[0, :64].double() / 1e-3
    ratio = 10_000 ** (-1 / 63)
    assert frequency.tolist() == pytest.approx([ratio**i for i in range(64)], rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float32, torch.float64])
def test_integer_and_floating_times_are_the_same_times(dtype: torch.dtype) -> None:
    t = torch.tensor([1, 17, 1000])
    got = sinusoidal_embedding(t.to(dtype), 32)
    assert got.dtype == torch.float32
    assert torch.equal(got, sinusoidal_embedding(t, 32))


def test_times_between_the_steps_are_told_apart() -> None:
    a, b = sinusoidal_embedding(torch.tensor([10.0, 10.25]), 16)
    assert (a - b).abs().max() > 0.1


def test_all_thousand_times_differ_in_a_bfloat16_network() -> None:
    """bfloat16 keeps 8 bits: times cast to it before the sine would leave 385 of them."""
    net = TimeEmbedding(32, 64).bfloat16()
    seen = []
    net.dense_1.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    assert net(torch.arange(1, 1001)).dtype == torch.bfloat16
    assert len(seen[0].unique(dim=0)) == 1000


def test_the_perceptron_is_affine_silu_affine() -> None:
    net = TimeEmbedding(4, 3)
    t = torch.tensor([3, 700])
    hidden = sinusoidal_embedding(t, 4) @ net.dense_1.weight.T + net.dense_1.bias
    expected = (hidden * hidden.sigmoid()) @ net.dense_2.weight.T + net.dense_2.bias
    assert torch.allclose(net(t), expected, atol=1e-6)


@pytest.mark.parametrize("dimension", [0, 2, 3, 7])
def test_a_dimension_without_two_halves_is_refused(dimension: int) -> None:
    with pytest.raises(ValueError, match=f"even and 4 or more, got {dimension}"):
        sinusoidal_embedding(torch.tensor([1]), dimension)
