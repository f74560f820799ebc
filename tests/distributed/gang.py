"""A gang of processes on one machine, for the tests beside this file: `python gang.py TASK WORKERS FOLDER`.

Torch is imported once and the workers are forked from it; they meet over gloo through a file. Each writes
FOLDER/rank.json with what its task found, and worker 0 may write tensors.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from diffusion.models import EMA, UNet
from diffusion.models.digest import content_digest
from diffusion.process import DiscretizedGaussian, NoiseSchedule, log_snr_bins, to_unit
from diffusion.training.batches import Batches
from diffusion.training.health import Health
from diffusion.training.history import History
from diffusion.training.minibatch import Minibatch, Minibatches
from diffusion.training.objective import DiffusionLoss, Losses, Objective
from diffusion.training.optimizer import AdamW
from diffusion.training.rate import LearningRate
from diffusion.training.reduction import reduction
from diffusion.training.state import TrainingState
from diffusion.training.step import Trainer, UpdateRule
from diffusion.training.tally import Tally
from diffusion.training.times import ImportanceTimes
from diffusion.training.tree import Shares, TreeSum
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


def leaf_values(v: int, leaves: int) -> Tensor:
    """Of very different size, so that the order of a sum changes its bits."""
    return torch.randn(1000, generator=torch.Generator().manual_seed(v)) * 10.0 ** (v % 5 - leaves % 3)


def nested(parts: list[Tensor]) -> Tensor:
    half = len(parts) // 2
    return parts[0] if len(parts) == 1 else nested(parts[:half]) + nested(parts[half:])


def tree(rank: int, workers: int, folder: Path) -> dict[str, Any]:
    """The tree sum on these workers against its definition, for every number of leaves that they can share."""
    wrong = []
    for leaves in (n for n in (1, 2, 4, 8, 16, 32) if n >= workers):
        parts = [leaf_values(v, leaves) for v in range(leaves)]
        shares = Shares(leaves, workers)
        buffers = [torch.empty(1000) for _ in range(shares.buffers)]
        asked: list[int] = []

        def leaf(v: int, i: int, *, parts: list[Tensor] = parts, asked: list[int] = asked, out: Any = buffers) -> None:
            asked.append(v)
            out[i].copy_(parts[v])

        TreeSum(shares, rank, buffers)(leaf)
        if not torch.equal(buffers[0], nested(parts)) or asked != list(shares.of(rank)):
            wrong.append(leaves)
    return {"wrong": wrong}


def make_trainer(mode: str, rank: int, workers: int, *, dropout: float, clip_norm: float | None = 0.5) -> Trainer:
    torch.manual_seed(0)
    net = UNet(8, 1, 8, (1, 2), blocks=1, dropout=dropout)
    minibatches = Minibatches(MemoryImages(), LEVELS, Batches(50, 16, V, seed=3), ImportanceTimes(20, 3, V), flip=True)
    tally = Tally(SCHEDULE, log_snr_bins(SCHEDULE, 4).of_index + 1, 4, per_time=True)
    objective = Objective(minibatches, LOSS, tally, microbatch=1, dropout=dropout > 0)
    history = History(tallied=tally.size)
    state = TrainingState(net, EMA(net, 0.9), AdamW(net, weight_decay=0.01), history, Health(), minibatches.times)
    shares = Shares(V, workers)
    rule = UpdateRule(LearningRate(1e-2), clip_norm)
    return Trainer(state, reduction(mode, net, objective, shares, rank), rule, tally)


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


def fast(rank: int, workers: int, folder: Path) -> dict[str, Any]:
    """The gradient of one step by DDP, and the digest of the weights after some more."""
    trainer = make_trainer("fast", rank, workers, dropout=0.0)
    gradient = trainer._reduction(0)
    if rank == 0:
        save_file({"gradient": gradient.flat.clone()}, folder / "gradient.safetensors")
    for _ in range(STEPS):
        trainer.step()
    return {"digest": content_digest(trainer.state.net.state_dict())}


def nowhere(net: torch.nn.Module, batch: Minibatch) -> Losses:
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
    "tree": tree,
    "strict": strict,
    "fast": fast,
    "bad": bad,
}


def worker(task: str, rank: int, workers: int, folder: Path) -> None:
    torch.set_num_threads(1)
    if workers > 1:
        meeting = f"file://{folder / 'meeting'}"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=workers)
    (folder / f"{rank}.json").write_text(json.dumps(TASKS[task](rank, workers, folder)))
    if workers > 1:
        dist.barrier()
        dist.destroy_process_group()


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
