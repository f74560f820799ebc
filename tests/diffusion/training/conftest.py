"""A training in small: 8x8 images, a U-Net with dropout, 4 virtual shards of 4 images, flips on."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from diffusion.models import EMA, UNet
from diffusion.process import DiscretizedGaussian, NoiseSchedule, log_snr_bins
from diffusion.training.batches import Batches
from diffusion.training.health import Health
from diffusion.training.history import History
from diffusion.training.minibatch import Minibatches
from diffusion.training.objective import DiffusionLoss, Objective
from diffusion.training.optimizer import AdamW
from diffusion.training.rate import LearningRate
from diffusion.training.reduction import reduction
from diffusion.training.state import TrainingState
from diffusion.training.step import Trainer, UpdateRule
from diffusion.training.tally import Tally
from diffusion.training.times import UniformTimes
from diffusion.training.tree import Shares

V = 4
BATCH = 16
LEVELS = 17


class MemoryImages:
    """n images of random levels."""

    def __init__(self, n: int, *, labelled: bool = False) -> None:
        rng = np.random.default_rng(n)
        self.pixels = rng.integers(0, LEVELS, (n, 1, 8, 8)).astype(np.uint8)
        self.labels = np.arange(n, dtype=np.int64) % 10 if labelled else None

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.pixels[indices]


@pytest.fixture
def images() -> MemoryImages:
    return MemoryImages(50)


@pytest.fixture
def labelled_images() -> MemoryImages:
    return MemoryImages(50, labelled=True)


def small_net() -> UNet:
    """Always the same weights; none of them zero, so that every part of the gradient counts."""
    torch.manual_seed(0)
    net = UNet(8, 1, 8, (1, 2), blocks=1, dropout=0.2)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.1)
    return net


@pytest.fixture
def net() -> UNet:
    return small_net()


@pytest.fixture
def minibatches(images: MemoryImages) -> Minibatches:
    return Minibatches(images, LEVELS, Batches(len(images), BATCH, V, seed=7), UniformTimes(20, 7), flip=True)


@pytest.fixture
def objective(minibatches: Minibatches) -> Objective:
    s = NoiseSchedule.cosine(20)
    return Objective(minibatches, DiffusionLoss(s, DiscretizedGaussian(LEVELS)), tally(s), dropout=True)


def tally(s: NoiseSchedule, *, per_time: bool = False) -> Tally:
    """Of 4 bins."""
    return Tally(s, log_snr_bins(s, 4).of_index + 1, 4, per_time)


@pytest.fixture
def new_trainer(objective: Objective) -> Callable[..., Trainer]:
    """Makes a trainer at step 0, always with the same initial weights."""

    def make(
        mode: str = "strict",
        objective: Objective = objective,
        memory_format: torch.memory_format = torch.contiguous_format,
        patience: int = 1,
    ) -> Trainer:
        net = small_net().to(memory_format=memory_format)
        history, times = History(tallied=objective.tally.kept), objective.minibatches.times
        state = TrainingState(net, EMA(net, 0.9), AdamW(net, weight_decay=0.01), history, Health(patience), times)
        rule = UpdateRule(LearningRate(1e-2, warmup_steps=3), clip_norm=0.5)
        return Trainer(state, reduction(mode, net, objective, Shares(V)), rule, objective.tally)

    return make


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """As in a worker: the number of threads changes bits."""
    torch.set_num_threads(1)
