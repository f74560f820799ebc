"""One worker of benchmarks/scaling.py, on a host of its own: makes a training step when it is told to.

It is told by a line of JSON on its standard input, and answers with one on its standard output.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from torch import Tensor

    from diffusion.training.step import Trainer
    from pipelines.params import Params

PORT = 29500
MODES = ("strict", "fast")


@dataclass(frozen=True)
class Work:
    """What a training step is."""

    channels: int = 64
    """Of the CIFAR-10 preset's network, which has 128."""
    shards: int = 8
    """Virtual shards of the whole batch."""
    images: int = 4
    """Of one virtual shard, in one microbatch in both modes."""

    def params(self, shards: int) -> Params:
        """For a batch of so many shards."""
        from pipelines.configuration import read_yaml
        from pipelines.params import Params

        values = read_yaml(ROOT / "presets" / "cifar10.yaml")
        values["model"]["channels"] = self.channels
        values["train"] |= {"virtual_shards": shards, "batch_size": shards * self.images, "microbatch": self.images}
        return Params.model_validate(values)


@dataclass(frozen=True)
class Place:
    """Where a worker stands."""

    rank: int
    workers: int
    meeting: str
    """Address of rank 0."""


class Worker:
    """Its trainings, each at a step of its own."""

    def __init__(self, work: Work, place: Place) -> None:
        import torch
        import torch.distributed as dist
        from reduction import RandomImages, trainer

        torch.set_num_threads(1)
        self._work, self._place = work, place
        if place.workers > 1:
            meeting = f"tcp://{place.meeting}:{PORT}"
            dist.init_process_group("gloo", init_method=meeting, rank=place.rank, world_size=place.workers)
        images = RandomImages(4 * work.shards * work.images, (3, 32, 32), 256)
        # One worker alone also makes the part that is each one's of two and of four.
        counts = (work.shards, work.shards // 2, work.shards // 4) if place.workers == 1 else (work.shards,)
        self._trainers: dict[tuple[str, int], Trainer] = {
            (mode, shards): trainer(mode, work.params(shards), images, place.rank, place.workers)
            for mode in MODES
            for shards in counts
        }

    def step(self, mode: str, shards: int) -> float:
        """Seconds of a training step of so many shards in all, which all workers begin together."""
        self._meet()
        began = time.perf_counter()
        self._trainers[mode, shards].step()
        return time.perf_counter() - began

    def message(self, size: int) -> tuple[float, float]:
        """Two workers exchange so many bytes: seconds that it takes, and seconds of this one's processor; the median of
        as many times as take about two seconds."""
        import statistics

        import torch

        from diffusion.training.messages import exchange

        ours, theirs = torch.zeros(size // 4), torch.zeros(size // 4)
        seconds, own = [], []
        for _ in range(200 if size < 1000 else 11):
            self._meet()
            began, used = time.perf_counter(), time.process_time()
            exchange(ours, theirs, 1 - self._place.rank)
            seconds.append(time.perf_counter() - began)
            own.append(time.process_time() - used)
        return statistics.median(seconds), statistics.median(own)

    def arrivals(self) -> list[tuple[int, float]]:
        """When the backward pass of one shard brings which gradients: bytes, and seconds since it began. The last entry
        is its end."""
        import torch

        net = self._trainers["strict", self._work.shards].state.net
        x_t, t = torch.randn(self._work.images, 3, 32, 32), torch.arange(1, self._work.images + 1)
        found: list[tuple[int, float]] = []
        began = 0.0

        def arrived(gradient: Tensor) -> None:
            found.append((4 * gradient.numel(), time.perf_counter() - began))

        hooks = [each.register_hook(arrived) for each in net.parameters()]  # type: ignore[no-untyped-call]
        for _ in range(2):  # the first also asks for memory
            loss = net(x_t, t).square().mean()
            found.clear()
            began = time.perf_counter()
            torch.autograd.grad(loss, list(net.parameters()))
        for hook in hooks:
            hook.remove()
        return [*found, (0, time.perf_counter() - began)]

    def _meet(self) -> None:
        import torch.distributed as dist

        if self._place.workers > 1:
            dist.barrier()


def main() -> None:
    """Answer until the input ends."""
    told: dict[str, Any] = json.loads(sys.stdin.readline())
    worker = Worker(Work(**told["work"]), Place(**told["place"]))
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(worker, name)(*arguments)), flush=True)


def told(work: Work, place: Place) -> str:
    """The first line that a worker wants."""
    return json.dumps({"work": asdict(work), "place": asdict(place)})


if __name__ == "__main__":
    main()
