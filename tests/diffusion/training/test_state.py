from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffusion.models import EMA, UNet
from diffusion.training.history import History
from diffusion.training.optimizer import AdamW
from diffusion.training.points import BoundPoint, LossPoint
from diffusion.training.state import TrainingState
from diffusion.training.step import Trainer

NewTrainer = Callable[..., Trainer]


def advance(trainer: Trainer, to: int) -> None:
    """Steps with a loss point every third."""
    while trainer.state.step < to:
        trainer.step()
        if trainer.state.step % 3 == 0:
            trainer.state.history.close(trainer.state.step, 3, trainer.rule.rate(trainer.state.step - 1))


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
    assert trainer.state.history.losses == undisturbed.state.history.losses
    assert [point.step for point in trainer.state.history.losses] == [3, 6, 9]


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
    state = TrainingState(wider, EMA(wider, 0.9), AdamW(wider, 0.0), History())
    with pytest.raises(ValueError, match=r"the weights: tensor .* wanted torch\.float32 .*another network"):
        state.load(groups, 1)
    groups["weights"].pop("head.weight")
    with pytest.raises(ValueError, match=r"the weights lacks tensor 'head\.weight'"):
        state.load(groups, 1)


def test_history_means_and_its_way_through_tensors() -> None:
    history = History()
    for loss, norm in [(1.0, 4.0), (2.0, 6.0)]:
        history.add(torch.tensor(loss), torch.tensor(norm))
    assert history.close(2, 2, 0.5) == LossPoint(2, 1.5, 5.0, 0.5)
    history.bounds.append(BoundPoint(2, 0.001, 2.5, 0.25, 2.751))
    history.add(torch.tensor(3.0), torch.tensor(1.0))

    other = History()
    other.load({name: tensor.clone() for name, tensor in history.tensors().items()})
    assert (other.losses, other.bounds) == (history.losses, history.bounds)
    assert isinstance(other.losses[0].step, int)
    other.add(torch.tensor(1.0), torch.tensor(1.0))
    assert other.close(4, 2, 0.5).loss == 2.0

    empty = History()
    empty.load(History().tensors())
    assert (empty.losses, empty.bounds) == ([], [])
