from math import isclose, sqrt

import pytest
import torch
from torch import Tensor, nn

from diffusion.training.gradient import FlatGradient
from diffusion.training.optimizer import AdamW
from diffusion.training.rate import LearningRate
from diffusion.training.step import clip


def test_warm_up_is_linear_and_then_constant() -> None:
    rate = LearningRate(0.4, warmup_steps=4)
    assert [rate(s) for s in (0, 1, 3, 4, 1000)] == pytest.approx([0.1, 0.2, 0.4, 0.4, 0.4])


def test_cosine_ends_at_zero() -> None:
    rate = LearningRate(0.4, warmup_steps=10, decay_to=30)
    assert [rate(s) for s in (9, 10, 20, 30, 99)] == pytest.approx([0.4, 0.4, 0.2, 0.0, 0.0])
    assert rate(15) == pytest.approx(0.2 * (1 + sqrt(0.5)))


def gradients(net: nn.Module, seed: int) -> list[Tensor]:
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(p.shape, generator=source) for p in net.parameters()]


def test_adamw_takes_the_step_of_its_formula() -> None:
    """Both moments begin at zero, so after bias correction the first update is w (1 - lr wd) - lr g / (|g| + 1e-8)."""
    net = nn.Linear(3, 1, bias=False)
    before = net.weight.detach().clone()
    g = torch.tensor([[2.0, -0.5, 1e-3]])
    AdamW(net, weight_decay=0.1).update([g], 0.01)
    torch.testing.assert_close(net.weight.detach(), before * (1 - 0.001) - 0.01 * g / (g.abs() + 1e-8))


def test_it_is_torchs_adamw() -> None:
    net, other = nn.Linear(5, 3), nn.Linear(5, 3)
    other.load_state_dict(net.state_dict())
    ours, theirs = AdamW(net, weight_decay=0.1), torch.optim.AdamW(other.parameters(), weight_decay=0.1, fused=True)
    for step in range(5):
        ours.update(gradients(net, step), 0.01 * step)
        for parameter, gradient in zip(other.parameters(), gradients(other, step), strict=True):
            parameter.grad = gradient
        theirs.param_groups[0]["lr"] = 0.01 * step
        theirs.step()
    assert torch.equal(net.weight, other.weight)
    assert torch.equal(net.bias, other.bias)


def test_a_blocked_update_changes_nothing() -> None:
    net = nn.Linear(5, 3)
    optimizer = AdamW(net)
    optimizer.update(gradients(net, 0), 0.01, torch.tensor(0.0))
    before = {name: t.clone() for name, t in {**optimizer.tensors(), **net.state_dict()}.items()}
    optimizer.update([torch.full((3, 5), torch.nan), torch.ones(3)], 0.01, torch.tensor(1.0))
    assert all(torch.equal(t, before[name]) for name, t in {**optimizer.tensors(), **net.state_dict()}.items())


def test_the_optimisers_state_survives_bit_for_bit() -> None:
    net, other = nn.Linear(5, 3), nn.Linear(5, 3)
    optimizer, resumed = AdamW(net, 0.1), AdamW(other, 0.1)
    for step in range(3):
        optimizer.update(gradients(net, step), 0.01)
    kept = {name: tensor.clone() for name, tensor in optimizer.tensors().items()}
    assert set(kept) == {"updates", *(f"{m}.{p}" for m in ("exp_avg", "exp_avg_sq") for p in ("weight", "bias"))}
    assert kept["updates"] == 3

    other.load_state_dict(net.state_dict())
    resumed.load(kept)
    for step in range(3, 6):
        optimizer.update(gradients(net, step), 0.01)
        resumed.update(gradients(other, step), 0.01)
    assert all(torch.equal(tensor, resumed.tensors()[name]) for name, tensor in optimizer.tensors().items())
    assert torch.equal(net.weight, other.weight)


def test_another_networks_optimiser_is_refused() -> None:
    net, wider, deeper = nn.Linear(2, 2), nn.Linear(3, 2), nn.Sequential(nn.Linear(2, 2))
    kept = AdamW(net).tensors()
    with pytest.raises(ValueError, match=r"'exp_avg.weight' is torch.float32 \(2, 2\), wanted torch.float32 \(2, 3\)"):
        AdamW(wider).load(kept)
    with pytest.raises(ValueError, match=r"the optimiser lacks tensor 'exp_avg\.0\.bias'"):
        AdamW(deeper).load(kept)


def test_clipping_scales_the_whole_gradient_and_not_the_loss() -> None:
    parameters = [torch.zeros(2), torch.zeros(1)]
    gradient = FlatGradient.like(parameters, tallied=1)
    gradient.set([torch.tensor([3.0, 0.0]), torch.tensor([4.0])], torch.tensor(7.0), torch.tensor([5.0]))
    assert clip(gradient, None) == 5.0
    assert clip(gradient, 10.0) == 5.0
    assert [v.tolist() for v in gradient.views] == [[3.0, 0.0], [4.0]]
    assert clip(gradient, 1.0) == 5.0
    assert isclose(float(torch.linalg.vector_norm(gradient.gradient)), 1.0, rel_tol=1e-6)
    assert gradient.loss == 7.0
    gradient.flat.zero_()
    assert clip(gradient, 1.0) == 0.0
    assert gradient.flat.isfinite().all()


def test_only_float32_parameters() -> None:
    with pytest.raises(ValueError, match=r"must be float32, got torch\.float64"):
        FlatGradient.like([torch.zeros(1, dtype=torch.float64)])
