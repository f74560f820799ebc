"""The average of the weights against its closed forms."""

from math import factorial

import pytest
import torch
from torch import nn

from diffusion.models import EMA, UNet


class Weight(nn.Module):
    """One weight, one floating buffer, one counter, and a table that is no part of the state."""

    def __init__(self, value: float, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2,), value, dtype=dtype))
        self.register_buffer("scale", torch.tensor([1.0]))
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("table", torch.tensor([5.0]), persistent=False)

    def set(self, value: float) -> None:
        self.weight.data.fill_(value)


def test_it_starts_at_the_weights() -> None:
    assert EMA(Weight(3.0), 0.9).tensors["weight"].tolist() == [3.0, 3.0]


def test_warm_up_forgets_the_start_as_the_product_of_its_decays() -> None:
    # From 0 with weights 1. What is left of the start after steps 0..n is the product of (1 + k) / (10 + k), which
    # telescopes to (n + 1)! 9! / (n + 10)!
    model = Weight(0.0)
    ema = EMA(model, 0.9999)
    model.set(1.0)
    for n in range(30):
        ema.update(model, step=n)
        left = factorial(n + 1) * factorial(9) / factorial(n + 10)
        assert ema.tensors["weight"].tolist() == pytest.approx([1 - left] * 2, abs=1e-6)


def test_after_warm_up_the_start_fades_as_a_power_of_the_decay() -> None:
    # (1 + step) / (10 + step) exceeds 0.9 from step 80 on
    model = Weight(0.0)
    ema = EMA(model, 0.9)
    model.set(1.0)
    for n in range(1, 41):
        ema.update(model, step=80 + n)
        assert ema.tensors["weight"].tolist() == pytest.approx([1 - 0.9**n] * 2, abs=1e-6)


def test_a_moving_weight_follows_the_recursion() -> None:
    model = Weight(0.0)
    ema = EMA(model, 0.8)
    average = 0.0
    for step in range(100):
        model.set(value := (step % 7) - 3.0)
        ema.update(model, step)
        d = min(0.8, (1 + step) / (10 + step))
        average = d * average + (1 - d) * value
        assert ema.tensors["weight"].tolist() == pytest.approx([average] * 2, abs=1e-5)


def test_decay_switches_from_warm_up_to_its_value() -> None:
    ema = EMA(Weight(0.0), 0.9)
    assert ema.decay_at(0) == 0.1
    assert ema.decay_at(80) == pytest.approx(0.9)
    assert ema.decay_at(81) == 0.9
    assert ema.decay_at(1_000_000) == 0.9


def test_decay_zero_is_a_copy() -> None:
    model = Weight(0.0)
    ema = EMA(model, 0.0)
    model.set(0.3)
    ema.update(model, 10)
    assert torch.equal(ema.tensors["weight"], model.weight)


def test_a_bfloat16_network_has_a_float32_average_that_moves() -> None:
    model = Weight(1.0, torch.bfloat16)
    ema = EMA(model, 0.9999)
    model.set(2.0)
    for step in range(1_000_000, 1_000_100):
        ema.update(model, step)
    assert ema.tensors["weight"].dtype == torch.float32
    assert ema.tensors["weight"].tolist() == pytest.approx([2 - 0.9999**100] * 2, abs=1e-5)
    assert model.weight.dtype == torch.bfloat16


def test_equal_weights_leave_the_average_bit_for_bit() -> None:
    model = Weight(0.1)
    ema = EMA(model, 0.999)
    for step in range(100):
        ema.update(model, step)
    assert torch.equal(ema.tensors["weight"], model.weight)


def test_buffers_are_copied_with_their_types() -> None:
    model = Weight(0.0)
    ema = EMA(model, 0.9)
    model.get_buffer("scale").fill_(7.0)
    model.get_buffer("count").fill_(42)
    ema.update(model, 0)
    assert list(ema.tensors) == ["weight", "scale", "count"] == list(model.state_dict())
    assert ema.tensors["scale"].tolist() == [7.0]
    assert ema.tensors["count"].item() == 42
    assert ema.tensors["count"].dtype == torch.int64


def test_the_network_is_never_written_and_shares_nothing() -> None:
    model = Weight(1.0)
    ema = EMA(model, 0.5)
    model.set(2.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ema.update(model, 100)
    ema.tensors["weight"].fill_(-1.0)
    ema.tensors["count"].fill_(-1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(value.requires_grad for value in ema.tensors.values())


def test_it_loads_into_a_network() -> None:
    torch.manual_seed(0)
    net = UNet(8, 1, 8, (1, 2), 1, (4,), classes=2)
    ema = EMA(net, 0.9)
    for parameter in net.parameters():
        parameter.data += 1.0
    ema.update(net, 0)
    other = UNet(8, 1, 8, (1, 2), 1, (4,), classes=2)
    other.load_state_dict(ema.tensors)
    assert all(torch.equal(value, ema.tensors[name]) for name, value in other.state_dict().items())


def test_stopping_and_loading_goes_on_to_the_same_bits() -> None:
    def train(model: Weight, ema: EMA, steps: range) -> None:
        for step in steps:
            model.set(0.1 * step**1.5)
            ema.update(model, step)

    model = Weight(0.3)
    straight = EMA(model, 0.97)
    train(model, straight, range(50))

    model = Weight(0.3)
    first = EMA(model, 0.97)
    train(model, first, range(20))
    second = EMA(Weight(-9.0), 0.97)
    second.load({name: value.clone() for name, value in first.tensors.items()})
    train(model, second, range(20, 50))
    assert torch.equal(second.tensors["weight"], straight.tensors["weight"])


def test_loading_keeps_its_own_memory() -> None:
    ema = EMA(Weight(0.0), 0.9)
    kept = {"weight": torch.ones(2), "scale": torch.ones(1), "count": torch.tensor(1)}
    ema.load(kept)
    kept["weight"].fill_(5.0)
    assert ema.tensors["weight"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2.0, float("nan")])
def test_a_decay_outside_its_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\)"):
        EMA(Weight(0.0), decay)


def test_another_network_is_refused() -> None:
    ema = EMA(Weight(0.0), 0.9)
    with pytest.raises(ValueError, match="another network: 3 tensors are in one only, for example bias, count, scale"):
        ema.update(nn.Linear(2, 2), 0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("weight", torch.zeros(3), r"weight of the kept average is torch.float32 \(3,\).* needs torch.float32 \(2,\)"),
        ("weight", torch.zeros(2).bfloat16(), r"is torch.bfloat16 \(2,\)"),
        ("other", torch.zeros(2), r"1 tensors are in one only, for example other"),
    ],
)
def test_loading_an_average_of_something_else_is_refused_and_changes_nothing(
    name: str, value: torch.Tensor, message: str
) -> None:
    ema = EMA(Weight(4.0), 0.9)
    kept = {n: torch.zeros_like(v) for n, v in ema.tensors.items()} | {name: value}
    with pytest.raises(ValueError, match=message):
        ema.load(kept)
    assert ema.tensors["weight"].tolist() == [4.0, 4.0]
