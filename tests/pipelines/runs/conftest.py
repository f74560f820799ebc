"""Small states of a run, told apart by their step."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipelines.runs.checkpoint import Checkpoint, save_checkpoint

Groups = dict[str, dict[str, Tensor]]


@pytest.fixture
def groups() -> Callable[[int], Groups]:
    """The tensors after a step: each value of the weights is the step."""

    def make(step: int) -> Groups:
        return {
            "weights": {"conv.weight": torch.full((3, 2), float(step)), "conv.bias": torch.full((3,), float(step))},
            "ema": {"conv.weight": torch.full((3, 2), step / 2), "conv.bias": torch.full((3,), step / 2)},
            "optimizer": {"step": torch.tensor(step)},
        }

    return make


@pytest.fixture
def save(tmp_path: Path, groups: Callable[[int], Groups]) -> Callable[..., Path]:
    """Save the state after a step to the run in `tmp_path / "run"`."""

    def save(step: int, final: bool = False) -> Path:
        return save_checkpoint(tmp_path / "run", step, groups(step), {"step": step, "loss": [0.5, 0.25]}, final=final)

    return save


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The run's folder; it does not exist yet."""
    return tmp_path / "run"


@pytest.fixture
def same(groups: Callable[[int], Groups]) -> Callable[[Checkpoint, int], bool]:
    """Whether a checkpoint holds the state after `step`, to the bit."""

    def same(checkpoint: Checkpoint, step: int) -> bool:
        loaded = {group: checkpoint.load(group) for group in groups(step)}
        return checkpoint.step == step and all(
            loaded[group].keys() == named.keys()
            and all(torch.equal(loaded[group][name], named[name]) for name in named)
            for group, named in groups(step).items()
        )

    return same
