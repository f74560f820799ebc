from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffusion.models import EMA, UNet
from diffusion.process import NoiseSchedule
from diffusion.training.health import Health
from diffusion.training.history import History
from diffusion.training.objective import Objective
from diffusion.training.optimizer import AdamW
from diffusion.training.points import BoundPoint, LossPoint
from diffusion.training.state import TrainingState
from diffusion.training.step import Trainer
from diffusion.training.times import ImportanceTimes, UniformTimes
from tests.diffusion.training.conftest import tally

NewTrainer = Callable[..., Trainer]
S = NoiseSchedule.cosine(20)


def advance(trainer: Trainer, to: int) -> None:
    """Steps with a point every third."""
    while trainer.state.step < to:
        trainer.step()
        if trainer.state.step % 3 == 0:
            trainer.close_points(16)


def everything(trainer: Trainer) -> dict[str, Tensor]:
    groups = trainer.state.groups()
    return {f"{group}/{name}": tensor.clone() for group, named in groups.items() for name, tensor in named.items()}


def through_files(trainer: Trainer, folder: Path) -> dict[str, dict[str, Tensor]]:
    groups = trainer.state.groups()
    for group, named in groups.items():
        save_file({name: tensor.contiguous() for name, tensor in named.items()}, folder / group)
    return {group: load_file(folder / group) for group in groups}


@pytest.mark.parametrize("mode", ["strict", "fast"])
def test_resumed_equals_uninterrupted_bit_for_bit(new_trainer: NewTrainer, tmp_path: Path, mode: str) -> None:
    """Interrupted after 1, 3, 4 and 7 steps, each time into a new process's worth of objects."""
    undisturbed = new_trainer(mode)
    advance(undisturbed, 10)

    trainer = new_trainer(mode)
    for stop in (1, 3, 4, 7):
        advance(trainer, stop)
        kept = through_files(trainer, tmp_path)
        torch.manual_seed(stop)  # a new process has another global generator
        trainer = new_trainer(mode)
        trainer.state.load(kept, stop)
    advance(trainer, 10)

    wanted, got = everything(undisturbed), everything(trainer)
    assert wanted.keys() == got.keys()
    assert [name for name in wanted if not torch.equal(wanted[name], got[name])] == []
    assert trainer.state.history.points == undisturbed.state.history.points
    assert [point.step for point in trainer.state.history.losses] == [3, 6, 9]


def test_a_distribution_of_times_that_learns_is_part_of_the_state(
    new_trainer: NewTrainer, objective: Objective, tmp_path: Path
) -> None:
    """It changes after 10 and 20 steps, and is uniform until every time was seen ten times: after about 25 here."""

    def make() -> Trainer:
        times = ImportanceTimes(20, 7, 4)
        minibatches = replace(objective.minibatches, times=times)
        return new_trainer(objective=replace(objective, minibatches=minibatches, tally=tally(S, per_time=True)))

    undisturbed, trainer = make(), make()
    advance(undisturbed, 45)
    for stop in (13, 38):
        advance(trainer, stop)
        kept = through_files(trainer, tmp_path)
        trainer = make()
        trainer.state.load(kept, stop)
    advance(trainer, 45)
    wanted, got = everything(undisturbed), everything(trainer)
    assert [name for name in wanted if not torch.equal(wanted[name], got[name])] == []
    assert wanted["times/probability"][1:].std() > 0


def test_training_does_not_go_on_from_the_average(new_trainer: NewTrainer, tmp_path: Path) -> None:
    trainer = new_trainer()
    advance(trainer, 3)
    kept = through_files(trainer, tmp_path)
    assert any(not torch.equal(kept["ema"][name], kept["weights"][name]) for name in kept["ema"])
    resumed = new_trainer()
    resumed.state.load(kept, 3)
    assert all(torch.equal(tensor, kept["weights"][name]) for name, tensor in resumed.state.net.state_dict().items())


def test_another_networks_state_is_refused(new_trainer: NewTrainer) -> None:
    groups = new_trainer().state.groups()
    wider = UNet(8, 1, 16, (1, 2), blocks=1)
    state = TrainingState(wider, EMA(wider, 0.9), AdamW(wider, 0.0), History(), Health(), UniformTimes(20, 0))
    with pytest.raises(ValueError, match=r"the weights: tensor .* wanted torch\.float32 .*another network"):
        state.load(groups, 1)
    groups["weights"].pop("head.weight")
    with pytest.raises(ValueError, match=r"the weights lacks tensor 'head\.weight'"):
        state.load(groups, 1)


def test_history_means_and_its_way_through_tensors() -> None:
    history = History(tallied=3)
    for loss, norm in [(1.0, 4.0), (2.0, 6.0)]:
        history.add(torch.tensor(loss), torch.tensor(norm), torch.tensor([1.0, 2.0, loss]))
    assert history.tallied.tolist() == [2.0, 4.0, 3.0]
    nan = torch.tensor(torch.nan)
    history.add(nan, nan, nan.expand(3), bad=torch.tensor(1.0))
    history.add(nan, nan, nan.expand(3), bad=torch.tensor(1.0))
    assert history.counted == 2
    assert history.close(2, 0.5) == LossPoint(2, 1.5, 5.0, 0.5)
    assert history.tallied.tolist() == [0.0, 0.0, 0.0]
    history.bounds.append(BoundPoint("validation", 2, 0.001, 2.5, 0.25, 0.1, 0.2, 0.3, (2.0, 0.5)))
    history.running.append(BoundPoint("running", 2, 0.001, 2.0, 0.25, 0.1, 0.2, 0.3, (1.5, 0.5)))
    history.add(torch.tensor(3.0), torch.tensor(1.0), torch.zeros(3))

    other = History(tallied=3)
    other.load({name: tensor.clone() for name, tensor in history.tensors().items()})
    assert other.points == history.points
    assert isinstance(other.losses[0].step, int)
    other.add(torch.tensor(1.0), torch.tensor(1.0), torch.zeros(3))
    assert other.close(4, 0.5).loss == 2.0

    empty = History()
    empty.load(History().tensors())
    assert empty.points == []
