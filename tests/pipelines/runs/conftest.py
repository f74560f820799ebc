"""Small states of a run, told apart by their step, in a folder and on S3."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipelines.runs.checkpoint import Checkpoint, save_checkpoint
from pipelines.runs.local import LocalStore
from pipelines.runs.s3 import S3Store
from pipelines.runs.store import Store
from tests.pipelines.runs.raw import Raw, RawBucket, RawFolder

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
def save(run: Store, groups: Callable[[int], Groups]) -> Callable[..., str]:
    """Save the state after a step to the run."""

    def save(step: int, final: bool = False) -> str:
        return save_checkpoint(run, step, groups(step), {"step": step, "loss": [0.5, 0.25]}, final=final)

    return save


@pytest.fixture(params=["local", "s3"])
def run(request: pytest.FixtureRequest) -> Store:
    """The run, in both kinds of store; it does not exist yet."""
    return request.getfixturevalue(f"{request.param}_run")


@pytest.fixture
def local_run(tmp_path: Path) -> LocalStore:
    """A run in a folder."""
    return LocalStore(tmp_path / "run")


@pytest.fixture
def s3_run(s3: str) -> S3Store:
    """A run on S3."""
    return S3Store(f"{s3}/run")


@pytest.fixture
def raw(run: Store) -> Iterator[Raw]:
    """The run's files, behind the back of the store."""
    if isinstance(run, LocalStore):
        yield RawFolder(run)
    else:
        bucket = RawBucket(run)
        yield bucket
        bucket.client.close()


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
