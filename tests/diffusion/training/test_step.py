"""A step of the real thing, and what happens where it is not finite."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from diffusion.models import UNet
from diffusion.process import NoiseSchedule
from diffusion.training.gradient import FlatGradient
from diffusion.training.health import Health, diagnose
from diffusion.training.minibatch import Minibatch
from diffusion.training.objective import Losses, Objective
from diffusion.training.reduction import reduction
from diffusion.training.step import Trainer
from diffusion.training.times import ImportanceTimes
from diffusion.training.tree import Shares
from tests.diffusion.training.conftest import tally

NewTrainer = Callable[..., Trainer]


@pytest.mark.parametrize("microbatch", [None, 1, 3])
def test_the_sum_of_the_shards_is_the_gradient_of_the_batch(
    net: UNet, objective: Objective, microbatch: int | None
) -> None:
    net.eval()  # without dropout the cut does not matter
    reference, tallied = objective.share(net, objective.minibatches.of(5, range(4)))
    wanted = torch.autograd.grad(reference, list(net.parameters()))
    loss = float(reference.detach())
    for mode in ("strict", "fast"):
        got = reduction(mode, net, replace(objective, microbatch=microbatch), Shares(4))(5)
        assert float(got.loss) == pytest.approx(loss, rel=1e-6)
        torch.testing.assert_close(got.tallied, tallied, rtol=1e-4, atol=1e-6)
        for gradient, view in zip(wanted, got.views, strict=True):
            torch.testing.assert_close(view, gradient, rtol=1e-4, atol=1e-6)


def test_strict_is_its_definition(net: UNet, objective: Objective) -> None:
    """Each shard alone with its own dropout, summed pairwise, bit for bit."""

    def shard(v: int) -> torch.Tensor:
        (part,) = objective.parts(2, [v])
        loss, tallied = objective.share(net, part)
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        return torch.cat([*(g.flatten() for g in gradients), loss.detach()[None], tallied, torch.zeros(1)])

    wanted = (shard(0) + shard(1)) + (shard(2) + shard(3))
    assert torch.equal(reduction("strict", net, objective, Shares(4))(2).flat, wanted)


def test_unknown_reduction(net: UNet, objective: Objective) -> None:
    with pytest.raises(ValueError, match="must be strict or fast, got 'ddp'"):
        reduction("ddp", net, objective, Shares(4))


def test_training_lowers_the_loss(new_trainer: NewTrainer) -> None:
    trainer = new_trainer()
    for _ in range(60):
        trainer.step()
        if trainer.state.step % 20 == 0:
            trainer.close_points(16)
    first, _, last = trainer.state.history.losses
    assert last.loss < 0.8 * first.loss
    assert trainer.state.health.failed_at() is None


def test_the_first_step_is_number_0_for_rate_and_average(new_trainer: NewTrainer) -> None:
    """Of warm-up over 3 steps the first has a third of 1e-2, and AdamW's first update is at most the rate per weight.

    The average keeps d = (1 + 0) / (10 + 0) of the untrained weights.
    """
    trainer = new_trainer()
    before = {name: tensor.clone() for name, tensor in trainer.state.net.state_dict().items()}
    trainer.step()
    after = trainer.state.net.state_dict()
    decayed = 1 - 1e-2 / 3 * 0.01
    largest = max(float((after[name] - before[name] * decayed).abs().max()) for name in before)
    assert largest == pytest.approx(1e-2 / 3, rel=1e-3)
    for name, average in trainer.state.ema.tensors.items():
        torch.testing.assert_close(average, 0.1 * before[name] + 0.9 * after[name])
    assert trainer.state.step == 1


class BadAt:
    """A loss that is not finite for one image at one step."""

    def __init__(self, objective: Objective, step: int, shard: int, value: float) -> None:
        self.loss = objective.loss
        self.eps = objective.minibatches.of(step, [shard]).eps[1]
        self.value = value

    def __call__(self, net: torch.nn.Module, batch: Minibatch) -> Losses:
        bad = (batch.eps == self.eps).flatten(1).all(dim=1)
        loss, term = self.loss(net, batch)
        return Losses(loss * torch.where(bad, self.value, 1.0), term)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_blocks_all_updates(
    new_trainer: NewTrainer, objective: Objective, value: float
) -> None:
    bad = replace(objective, loss=BadAt(objective, step=3, shard=2, value=value))
    trainer, healthy = new_trainer(objective=bad), new_trainer()
    for _ in range(3):
        trainer.step()
        healthy.step()
    for _ in range(4):
        trainer.step()
    assert trainer.state.health.failed_at() == 3
    wanted = healthy.state.groups()
    for group in ("weights", "optimizer"):
        for name, tensor in trainer.state.groups()[group].items():
            assert torch.equal(tensor, wanted[group][name]), name

    suspects = diagnose(trainer.state.net, bad, 3)
    index = int(objective.minibatches.batches.indices(3, 2)[1])
    t = int(objective.minibatches.of(3, [2]).t[1])
    assert len(suspects) == 16
    assert (suspects[0].index, suspects[0].t) == (index, t)
    assert all(s.loss < float("inf") for s in suspects[1:])


def test_a_step_that_changes_the_distribution_of_times_is_diagnosed_at_its_own_times(
    new_trainer: NewTrainer, objective: Objective
) -> None:
    """Steps 0 to 8 teach it, which takes effect after step 9; that one is bad and teaches it nothing."""
    times = ImportanceTimes(20, 7, 4)
    times.observe(-1, torch.linspace(0.0, 100.0, 21), torch.full((21,), 10.0))
    objective = replace(objective, minibatches=replace(objective.minibatches, times=times))
    bad = replace(
        objective,
        loss=BadAt(objective, step=9, shard=2, value=torch.nan),
        tally=tally(NoiseSchedule.cosine(20), per_time=True),
    )
    trainer, wanted = new_trainer(objective=bad), objective.minibatches.of(9, range(4)).t.tolist()
    before = times.probability.copy()
    for _ in range(10):
        trainer.step()
    assert trainer.state.health.failed_at() == 9
    assert not np.array_equal(times.probability, before)
    assert sorted(suspect.t for suspect in diagnose(trainer.state.net, bad, 9)) == sorted(wanted)
    assert all(tensor.isfinite().all() for tensor in times.tensors().values())


def test_a_gradient_that_overflows_is_not_finite_either() -> None:
    health = Health()
    assert health.observe(0, torch.tensor(1.0), torch.tensor(2.0)) == 0.0
    assert health.failed_at() is None
    assert health.observe(1, torch.tensor(1.0), torch.tensor(float("inf"))) == 1.0
    assert health.observe(2, torch.tensor(1.0), torch.tensor(1.0)) == 1.0
    assert health.observe(3, torch.tensor(torch.nan), torch.tensor(1.0)) == 1.0
    assert health.failed_at() == 1


@pytest.mark.parametrize(
    ("steps", "blocked", "failed_at"),
    [
        ("gbgbbg", "010110", None),
        ("gbbgbbb", "0110111", 4),
        ("bbbggg", "111111", 0),
    ],
)
def test_only_bad_steps_in_a_row_fail(steps: str, blocked: str, failed_at: int | None) -> None:
    """After three in a row all that follows is blocked, good or not."""
    health, good = Health(patience=3), torch.tensor(1.0)
    found = [health.observe(step, good if kind == "g" else good / 0) for step, kind in enumerate(steps)]
    assert "".join(str(int(each)) for each in found) == blocked
    assert health.failed_at() == failed_at


def test_a_bad_step_is_left_out_and_leaves_no_trace(new_trainer: NewTrainer, objective: Objective) -> None:
    """With patience the run goes on; weights, moments and curves are those of the good steps alone."""
    bad = replace(objective, loss=BadAt(objective, step=1, shard=2, value=torch.nan))
    trainer, healthy = new_trainer(objective=bad, patience=2), new_trainer()
    heard = [trainer.step() for _ in range(2)]
    healthy.step()
    assert [(h.step, h.bad) for h in heard if h] == [(0, False), (1, True)]
    for group in ("weights", "optimizer"):
        for name, tensor in trainer.state.groups()[group].items():
            assert torch.equal(tensor, healthy.state.groups()[group][name]), name
    trainer.step()
    assert trainer.state.health.failed_at() is None
    points = trainer.close_points(16)
    assert points is not None
    assert all(point.step == 3 for point in points)
    assert torch.isfinite(torch.tensor([points[0].loss, points[0].gradient_norm, points[1].total])).all()
    assert trainer.close_points(16) is None


def test_the_host_hears_of_each_step_and_of_wishes_to_stop(new_trainer: NewTrainer) -> None:
    trainer = new_trainer()
    heard = [trainer.step(stop=step == 1) for step in range(3)]
    assert [(h.step, h.stop) for h in heard if h] == [(0, False), (1, True), (2, False)]
    losses = torch.tensor([h.loss for h in heard if h], dtype=torch.float64)
    (loss, _) = trainer.close_points(16) or (None, None)
    assert loss is not None
    assert loss.loss == pytest.approx(float(losses.mean()), rel=1e-6)


@pytest.mark.parametrize("mode", ["strict", "fast"])
def test_channels_last_weights_learn_the_same(new_trainer: NewTrainer, mode: str) -> None:
    """The fused optimiser walks through memory: a gradient in another order would update other weights.

    Where a gradient is close to zero Adam blows its rounding up, so each tensor's change is compared as a whole; in
    another order the two would have nothing in common.
    """
    plain, turned = new_trainer(mode=mode), new_trainer(mode=mode, memory_format=torch.channels_last)
    assert not turned.state.net.tail.weight.is_contiguous()
    plain.state.net.eval()  # dropout would draw its mask in another order
    turned.state.net.eval()
    before = {name: weight.clone() for name, weight in plain.state.net.state_dict().items()}
    for _ in range(3):
        plain.step()
        turned.step()
    for name, weight in plain.state.net.state_dict().items():
        apart = torch.linalg.vector_norm(turned.state.net.state_dict()[name] - weight)
        assert apart < 0.01 * torch.linalg.vector_norm(weight - before[name]), name


def test_weights_that_share_memory_are_refused() -> None:
    with pytest.raises(ValueError, match="contiguous or channels-last"):
        FlatGradient.like([torch.zeros(1).expand(4)])
