"""A gang of processes on one machine, for the tests beside this file: `python gang.py TASK WORKERS FOLDER`.

Torch is imported once and the workers are forked from it; they meet over gloo through a file. Each writes
FOLDER/rank.json with what its task found, and worker 0 may write tensors.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from safetensors.torch import save_file
from summing import tree
from torch import Tensor, nn

from diffusion.models import EMA, UNet
from diffusion.models.digest import content_digest
from diffusion.process import DiscretizedGaussian, NoiseSchedule, log_snr_bins, to_unit
from diffusion.training import overlap
from diffusion.training.batches import Batches
from diffusion.training.health import Health
from diffusion.training.history import History
from diffusion.training.minibatch import Minibatch, Minibatches
from diffusion.training.objective import DiffusionLoss, Losses, Objective
from diffusion.training.optimizer import AdamW
from diffusion.training.rate import LearningRate
from diffusion.training.reduction import Strict, reduction
from diffusion.training.state import TrainingState
from diffusion.training.step import Trainer, UpdateRule
from diffusion.training.tally import Tally
from diffusion.training.times import ImportanceTimes
from diffusion.training.tree import Shares
from diffusion.training.validation import Validation

V = 8
LEVELS = 17
STEPS = 12
"""More than the ten after which the distribution of times changes."""
SCHEDULE = NoiseSchedule.cosine(20)
LOSS = DiffusionLoss(SCHEDULE, DiscretizedGaussian(LEVELS))


class MemoryImages:
    labels = None
    pixels = np.random.default_rng(0).integers(0, LEVELS, (50, 1, 8, 8)).astype(np.uint8)

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.pixels[indices]


def make_net(dropout: float = 0.0) -> UNet:
    torch.manual_seed(0)
    return UNet(8, 1, 8, (1, 2), blocks=1, dropout=dropout)


def make_objective(*, dropout: bool) -> Objective:
    minibatches = Minibatches(MemoryImages(), LEVELS, Batches(50, 16, V, seed=3), ImportanceTimes(20, 3, V), flip=True)
    tally = Tally(SCHEDULE, log_snr_bins(SCHEDULE, 4).of_index + 1, 4, per_time=True)
    return Objective(minibatches, LOSS, tally, microbatch=1, dropout=dropout)


def make_trainer(mode: str, rank: int, workers: int, *, dropout: float, clip_norm: float | None = 0.5) -> Trainer:
    net, objective = make_net(dropout), make_objective(dropout=dropout > 0)
    tally, times, adamw = objective.tally, objective.minibatches.times, AdamW(net, weight_decay=0.01)
    state = TrainingState(net, EMA(net, 0.9), adamw, History(tallied=tally.kept), Health(), times)
    rule = UpdateRule(LearningRate(1e-2), clip_norm)
    return Trainer(state, reduction(mode, net, objective, Shares(V, workers), rank), rule, tally)


def make_strict(net: nn.Module, rank: int, workers: int) -> Strict:
    return Strict(net, make_objective(dropout=False), Shares(V, workers), rank)


def validation(workers: int) -> Validation:
    x_0 = to_unit(torch.from_numpy(MemoryImages.pixels[:11]), LEVELS)
    ids = [str(i) for i in range(11)]
    decoder = DiscretizedGaussian(LEVELS)
    return Validation(x_0, ids, None, SCHEDULE, 5, decoder, 0, Shares(V, workers), bins=4)


def strict(rank: int, workers: int, folder: Path) -> dict[str, Any]:
    """Several steps with dropout, flips and microbatches, then the bound: the digest of everything."""
    torch.manual_seed(rank)  # what the process did before must not matter
    trainer = make_trainer("strict", rank, workers, dropout=0.2)
    for _ in range(STEPS):
        trainer.step()
    trainer.close_points(16)
    point = validation(workers)(trainer.state.net, trainer.state.ema.tensors, STEPS, rank)
    trainer.state.history.bounds.append(point)
    groups = trainer.state.groups()
    return {"digest": content_digest({f"{g}/{n}": t for g, named in groups.items() for n, t in named.items()})}


class Branches(nn.Module):
    """Computes its branches in this order or the other, so that their gradients arrive in the other or this one."""

    def __init__(self, *, turned: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right = nn.Conv2d(1, 64, 3, padding=1), nn.Conv2d(1, 64, 3, padding=1)
        self.turned = turned

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if self.turned:
            right, left = self.right(x), self.left(x)
        else:
            left, right = self.left(x), self.right(x)
        return (left + right).tanh().mean(dim=1, keepdim=True)


def turned(rank: int, workers: int, folder: Path) -> dict[str, Any]:
    """The gradients arrive in another order on each second worker."""
    net = Branches(turned=rank % 2 == 1)
    order = []
    hooks = [p.register_hook(lambda _, name=name: order.append(name)) for name, p in net.named_parameters()]
    strict = make_strict(net, rank, workers)
    digest = content_digest({"gradient": strict(0).flat})
    assert len(hooks) == 4
    return {"digest": digest, "first": order[0].split(".")[0]}


def on_last(parameter: Tensor, rank: int, workers: int, action: Callable[[], None]) -> None:
    """Do something when the gradient of this parameter arrives in the last microbatch of a worker's first step."""
    left = 2 * len(Shares(V, workers).of(rank))  # shards of two images, one by one

    def arrived(_: Tensor) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            action()

    parameter.register_hook(arrived)


def meanwhile(rank: int, workers: int, folder: Path) -> dict[str, Any]:
    """Whether the loss of all workers is known while the backward pass is still held up in the first layer."""
    net = make_net()
    total = float(make_strict(net, rank, workers)(0).loss)
    again, seen = make_strict(net, rank, workers), []

    def look() -> None:
        deadline = time.monotonic() + 30
        while float(again._buffers[0].loss) != total and time.monotonic() < deadline:
            time.sleep(0.01)
        seen.append(float(again._buffers[0].loss) == total)

    on_last(net.head.weight, rank, workers, look)
    again(0)
    return {"seen": seen}


def failing(rank: int, workers: int, folder: Path) -> dict[str, Any]:
    """Worker 1 fails in the first layer's backward pass, when most buckets are on their way, and lives on."""
    net = make_net()
    strict = make_strict(net, rank, workers)

    def fail() -> None:
        raise ArithmeticError("worker 1 failed")

    if rank == 1:
        on_last(net.head.weight, rank, workers, fail)
    began, found = time.monotonic(), ""
    try:
        strict(0)
    except (ArithmeticError, RuntimeError) as error:
        found = str(error)
    return {"error": found, "seconds": time.monotonic() - began}


def unused(rank: int, workers: int, folder: Path) -> dict[str, Any]:
    """A network with a parameter that the loss does not depend on."""
    net = make_net()
    net.head.register_parameter("unused", nn.Parameter(torch.zeros(2)))
    try:
        make_strict(net, rank, workers)(0)
    except RuntimeError as error:
        return {"error": str(error)}
    return {"error": ""}


def fast(rank: int, workers: int, folder: Path) -> dict[str, Any]:
    """The gradient of one step by DDP, and the digest of the weights after some more."""
    trainer = make_trainer("fast", rank, workers, dropout=0.0)
    gradient = trainer._reduction(0)
    if rank == 0:
        save_file({"gradient": gradient.flat.clone()}, folder / "gradient.safetensors")
    for _ in range(STEPS):
        trainer.step()
    return {"digest": content_digest(trainer.state.net.state_dict())}


def nowhere(net: nn.Module, batch: Minibatch) -> Losses:
    loss, term = LOSS(net, batch)
    return Losses(loss * torch.nan, term)


def bad(rank: int, workers: int, folder: Path) -> dict[str, Any]:
    """A loss that is not finite on the last worker only: all workers see it, at the same step."""
    found = []
    for mode in ("strict", "fast"):
        trainer = make_trainer(mode, rank, workers, dropout=0.0)
        inner = trainer._reduction
        objective: Objective = inner._objective  # type: ignore[attr-defined]
        if rank == workers - 1:
            inner._objective = replace(objective, loss=nowhere)  # type: ignore[attr-defined]
        trainer.step()
        found.append(trainer.state.health.failed_at())
    return {"found": found}


TASKS: dict[str, Callable[[int, int, Path], dict[str, Any]]] = {
    task.__name__: task for task in (tree, strict, turned, meanwhile, failing, unused, fast, bad)
}

TIMEOUT = {"failing": timedelta(seconds=10)}
"""Of a message, where workers wait for one that never comes."""


def worker(task: str, rank: int, workers: int, folder: Path) -> None:
    torch.set_num_threads(1)
    overlap.BUCKET = 500  # the small networks here have many buckets too
    if workers > 1:
        meeting = f"file://{folder / 'meeting'}"
        wait = TIMEOUT.get(task, timedelta(minutes=5))
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=workers, timeout=wait)
    (folder / f"{rank}.json").write_text(json.dumps(TASKS[task](rank, workers, folder)))
    if workers > 1:
        until_all_wrote(folder, workers)
        dist.destroy_process_group()


def until_all_wrote(folder: Path, workers: int) -> None:
    """Where messages no longer match there is no barrier either; and who ends early closes connections."""
    deadline = time.monotonic() + 120
    while len(list(folder.glob("*.json"))) < workers and time.monotonic() < deadline:
        time.sleep(0.02)


def main() -> None:
    importlib.import_module("torch._dynamo")  # DDP wants it; here once for all workers

    task, counts, folder = sys.argv[1], [int(n) for n in sys.argv[2].split(",")], Path(sys.argv[3])
    context = multiprocessing.get_context("fork")
    for workers in counts:
        here = folder / str(workers)
        here.mkdir(parents=True)
        processes = [context.Process(target=worker, args=(task, rank, workers, here)) for rank in range(workers)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            sys.exit(f"{task} on {workers} workers: exit codes {[process.exitcode for process in processes]}")


if __name__ == "__main__":
    main()
