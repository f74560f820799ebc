"""What strict reduction costs beside fast: seconds per training step. The table of benchmarks/README.md.

    python benchmarks/reduction.py --preset cifar10 --workers 2 --steps 5

Starts the workers by itself, one thread each; they meet over gloo on 127.0.0.1. Each makes one step of a mode after one
of the other, so that whatever else the machine does falls on both. Images are random in the preset's shape, or those of
a prepared folder.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diffusion.training.step import Trainer
    from pipelines.params import Params

MODES = ("strict", "fast")
DIGITS = (1, 8, 17)


class RandomImages:
    """As many images as fill a few batches."""

    labels: NDArray[np.int64] | None = None

    def __init__(self, n: int, shape: tuple[int, int, int], levels: int) -> None:
        self.levels = levels
        self.shape = shape
        self._pixels = np.random.default_rng(0).integers(0, levels, (n, *shape), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._pixels)

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images at `indices`."""
        return self._pixels[indices]


@dataclass(frozen=True)
class Measured:
    """What is measured, and by how many."""

    preset: str
    workers: int
    steps: int
    """Of each mode, after one that does not count."""
    batch_size: int | None
    """Instead of the preset's."""
    microbatch: int | None
    """Instead of the preset's."""
    prepared: Path | None
    """A folder of prepared images; None: random ones."""
    port: int
    """Where the workers meet."""

    def params(self) -> Params:
        """The preset, with what is to be changed in it."""
        from pipelines.configuration import read_yaml
        from pipelines.params import Params

        values = read_yaml(ROOT / "presets" / f"{self.preset}.yaml")
        for name in ("batch_size", "microbatch"):
            if (value := getattr(self, name)) is not None:
                values["train"][name] = value
        return Params.model_validate(values)


def trainer(mode: str, params: Params, images: Any, rank: int, workers: int, device: str = "cpu") -> Trainer:
    """A training at step 0, as a worker of the pipeline would make it."""
    import torch

    from diffusion.models import EMA, UNet
    from diffusion.process import log_snr_bins
    from diffusion.training.batches import Batches
    from diffusion.training.health import Health
    from diffusion.training.history import History
    from diffusion.training.minibatch import Minibatches
    from diffusion.training.objective import Objective
    from diffusion.training.optimizer import AdamW
    from diffusion.training.reduction import reduction
    from diffusion.training.state import TrainingState
    from diffusion.training.step import Trainer, UpdateRule
    from diffusion.training.tally import Tally
    from diffusion.training.tree import Shares
    from pipelines.cluster.assemble import BINS, learning_rate
    from pipelines.cluster.objective import build_loss, build_times

    train, (channels, side, _) = params.train, images.shape
    model = params.model.model_dump(exclude={"kind", "class_conditional", "predicts"})
    torch.manual_seed(0)
    net = UNet(side, channels, **model).to(device)
    batches = Batches(len(images), train.batch_size, train.virtual_shards, params.seed)
    times, flip = build_times(params, device), train.horizontal_flip
    minibatches = Minibatches(images, images.levels, batches, times, flip=flip, device=device)
    loss = build_loss(params, images.levels, device)
    bins, per_time = log_snr_bins(loss.schedule, BINS).of_index.to(device) + 1, train.times == "importance"
    tally = Tally(loss.schedule, bins, BINS, per_time)
    objective = Objective(minibatches, loss, tally, train.microbatch, dropout=params.model.dropout > 0)
    history, health = History(device, tally.kept), Health(device=device)
    state = TrainingState(net, EMA(net, 0.999), AdamW(net), history, health, times)
    rule = UpdateRule(learning_rate(train), train.clip_norm)
    shares = Shares(train.virtual_shards, workers)
    return Trainer(state, reduction(mode, net, objective, shares, rank), rule, tally)


def worker(rank: int, asked: Measured, answer: Any) -> None:
    """Step after step; worker 0 answers with the seconds of each, by mode."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    params = asked.params()
    if asked.workers > 1:
        meeting = f"tcp://127.0.0.1:{asked.port}"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=asked.workers)
    images = open_images(asked, params)
    trainers = {mode: trainer(mode, params, images, rank, asked.workers) for mode in MODES}
    seconds: dict[str, list[float]] = {mode: [] for mode in MODES}
    for number in range(asked.steps + 1):
        for mode in MODES if number % 2 else MODES[::-1]:
            _meet(asked.workers)
            began = time.perf_counter()
            trainers[mode].step()
            _meet(asked.workers)
            if number:
                seconds[mode].append(time.perf_counter() - began)
        if rank == 0:
            print(f"\r{number} of {asked.steps}", end="", file=sys.stderr, flush=True)
    if rank == 0:
        answer.put((seconds, sum(p.numel() for p in trainers["fast"].state.net.parameters())))


def open_images(asked: Measured, params: Params) -> Any:
    """The training images to measure with."""
    if asked.prepared is not None:
        from pipelines.data.dataset import open_split

        return open_split(asked.prepared, "train")
    channels, side, levels = DIGITS
    if params.data.source != "digits":
        channels, side, levels = params.prepare.channels, params.prepare.image_size or 32, 256
    return RandomImages(4 * params.train.batch_size, (channels, side, side), levels)


def _meet(workers: int) -> None:
    import torch.distributed as dist

    if workers > 1:
        dist.barrier()


def show(asked: Measured, seconds: dict[str, list[float]], parameters: int) -> None:
    """The table in Markdown."""
    train = asked.params().train
    print(
        f"\n{asked.preset}, {parameters:,} parameters, {asked.workers} workers, batch of {train.batch_size} in "
        f"{train.virtual_shards} virtual shards, microbatch {train.microbatch}, {asked.steps} steps of each mode\n"
    )
    print("| reduction | median s/step | least | most |")
    print("|---|---|---|---|")
    for mode, each in seconds.items():
        print(f"| {mode} | {statistics.median(each):.3f} | {min(each):.3f} | {max(each):.3f} |")
    pairs = [strict / fast for strict, fast in zip(seconds["strict"], seconds["fast"], strict=True)]
    print(
        f"\nstrict / fast: {statistics.median(seconds['strict']) / statistics.median(seconds['fast']):.3f} "
        f"(of the neighbours {min(pairs):.3f} to {max(pairs):.3f})"
    )


def main() -> None:
    """Measure and print."""
    from multiprocessing import get_context

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--preset", default="cifar10", help="a file of presets/, without .yaml")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5, help="of each mode, after one that does not count")
    parser.add_argument("--batch-size", type=int, help="instead of the preset's")
    parser.add_argument("--microbatch", type=int, help="instead of the preset's")
    parser.add_argument("--prepared", type=Path, help="results/prepare, for real images")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    asked = Measured(**vars(parser.parse_args()), port=port)
    context = get_context("spawn")
    answer = context.SimpleQueue()
    workers = [context.Process(target=worker, args=(rank, asked, answer)) for rank in range(asked.workers)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    if any(each.exitcode for each in workers):
        sys.exit(f"a worker failed: exit codes {[each.exitcode for each in workers]}, see above")
    show(asked, *answer.get())


if __name__ == "__main__":
    main()
