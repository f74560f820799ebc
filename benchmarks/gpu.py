"""What one GPU makes of a preset: training strict and fast, a checkpoint's cost, and ways to call the network.

    python benchmarks/gpu.py --presets cifar10 digits --seconds 120 --out gpu.json

Random images and weights. The variants of a table take turns in one process; the times are medians of rounds, each of
several calls that end with a synchronisation. What does not begin within `--seconds` is left out.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from reduction import Measured, open_images, trainer
from torch import Tensor, nn

from diffusion.models import UNet
from diffusion.samplers import Ancestral, sample
from diffusion.training.random import normal_per_image
from diffusion.training.step import Trainer
from pipelines.build import build_schedule
from pipelines.cluster.assemble import fix_kernels
from pipelines.cluster.job import Job, Place
from pipelines.cluster.parallel import serial_map
from pipelines.cluster.saving import Saver
from pipelines.params import Params
from pipelines.runs.local import LocalStore

BEGAN = time.monotonic()

Row = dict[str, Any]


class Bench:
    """The device, and how long there is."""

    def __init__(self, device: str, seconds: float, rounds: int, calls: int, backend: str) -> None:
        self.device = torch.device(device)
        self.seconds, self.rounds, self.calls, self.backend = seconds, rounds, calls, backend

    @property
    def late(self) -> bool:
        """Whether nothing more should begin."""
        return time.monotonic() - BEGAN > self.seconds

    def ms(self, action: Callable[[], object], calls: int | None = None) -> float:
        """Of one call, when several are made and waited for together."""
        calls = calls or self.calls
        self.wait()
        began = time.perf_counter()
        for _ in range(calls):
            action()
        self.wait()
        return (time.perf_counter() - began) / calls * 1e3

    def wait(self) -> None:
        """For all that the device was asked to do."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def in_turns(self, actions: Mapping[str, Callable[[], object]], calls: int | None = None) -> dict[str, list[float]]:
        """The milliseconds of each, in rounds, every second of them backwards; one more goes before and is left out."""
        found: dict[str, list[float]] = {name: [] for name in actions}
        for number in range(self.rounds + 1):
            for name in list(actions)[:: 1 if number % 2 else -1]:
                taken = self.ms(actions[name], calls)
                if number:
                    found[name].append(taken)
        return found

    def kernels(self, *, strict: bool, precision: str) -> None:
        """As a training worker has them, but for the precision of convolutions."""
        fix_kernels(Place(0, 1, self.device), strict=strict)
        torch.backends.cudnn.conv.fp32_precision = precision


def spread(ms: list[float]) -> Row:
    """What the tables show of the rounds."""
    return {"ms": statistics.median(ms), "least": min(ms), "most": max(ms)}


def training(bench: Bench, params: Params, images: Any) -> list[Row]:
    """Milliseconds per step, by mode, images per pass and precision of the convolutions."""
    train = params.train
    shard = train.batch_size // train.virtual_shards
    small = params.model_copy(update={"train": train.model_copy(update={"microbatch": shard})})
    trainers = {
        ("strict", shard): trainer("strict", params, images, 0, 1, str(bench.device)),
        ("fast", train.batch_size): trainer("fast", params, images, 0, 1, str(bench.device)),
        ("fast", shard): trainer("fast", small, images, 0, 1, str(bench.device)),
    }

    def stepping(mode: str, made: Trainer, precision: str) -> Callable[[], object]:
        def step() -> None:
            bench.kernels(strict=mode == "strict", precision=precision)
            made.step()

        return step

    actions = {
        f"{mode}, {at_once} at once, {precision}": stepping(mode, made, precision)
        for precision in ("tf32", "ieee")
        for (mode, at_once), made in trainers.items()
    }
    rows = [
        {"what": name, **spread(ms), "images_per_second": train.batch_size / statistics.median(ms) * 1e3}
        for name, ms in bench.in_turns(actions).items()
    ]
    bench.kernels(strict=True, precision="tf32")
    return rows + checkpoint(bench, params, trainers["strict", shard])


def checkpoint(bench: Bench, params: Params, training: Trainer) -> list[Row]:
    """How long a step waits for the copy of the state, and how long the step beside the writing takes."""
    parts: dict[str, list[float]] = {"wait for the copy": [], "step beside the writing": [], "rest of the writing": []}
    with tempfile.TemporaryDirectory() as folder:
        job = Job(params, Path(folder), LocalStore(Path(folder) / "run"), "benchmark", every_steps=1, keep=2)
        saver = Saver(job, lambda event: None)
        for number in range(4):
            groups = training.state.groups()
            for name, action in (
                ("wait for the copy", lambda: saver.start(training.state.step, groups, {})),  # noqa: B023
                ("step beside the writing", training.step),
                ("rest of the writing", saver.wait),
            ):
                taken = bench.ms(action, 1)
                if number:  # the first copy also gets its memory
                    parts[name].append(taken)
        saver.close()
    size = sum(t.nbytes for named in training.state.groups().values() for t in named.values())
    return [{"what": f"checkpoint of {size / 1e6:.0f} MB: {name}", **spread(ms)} for name, ms in parts.items()]


class Network:
    """A preset's network in eval mode, with weights that say something, and one batch for it."""

    def __init__(self, params: Params, images: Any, batch: int, device: torch.device) -> None:
        channels, side, _ = images.shape
        torch.manual_seed(0)
        net = UNet(side, channels, **params.model.model_dump(exclude={"kind", "class_conditional", "predicts"}))
        with torch.no_grad():
            for p in net.parameters():
                p.add_(0.02 * torch.randn_like(p))
        self.net: nn.Module = net.to(device).eval()
        self.x = torch.randn(batch, channels, side, side).to(device)
        self.t = torch.randint(1, params.process.T + 1, (batch,)).to(device)

    def call(self, bench: Bench, *, last: bool = False, mode: str | None = None) -> Callable[[], Tensor]:
        """A call of it: channels-last, compiled."""
        net, x = copy.deepcopy(self.net), self.x
        if last:
            net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
        if mode == "graphs":
            net = torch.compile(net, mode="reduce-overhead", dynamic=False)
        elif mode == "compiled":
            net = torch.compile(net, dynamic=False, backend=bench.backend)
        return lambda: net(x, self.t)


VARIANTS: dict[str, tuple[dict[str, Any], str]] = {
    "eager": ({}, "tf32"),
    "eager, float32": ({}, "ieee"),
    "channels-last": ({"last": True}, "tf32"),
    "compiled": ({"mode": "compiled"}, "tf32"),
    "compiled, CUDA graphs": ({"mode": "graphs"}, "tf32"),
    "compiled, channels-last": ({"mode": "compiled", "last": True}, "tf32"),
    "compiled, CUDA graphs, float32": ({"mode": "graphs"}, "ieee"),
}


@torch.no_grad()
def calling(bench: Bench, params: Params, images: Any) -> list[Row]:
    """The network on a batch of the sample stage in each way, and the stage's own loop."""
    batch, T = params.sample.batch_size, params.process.T
    network = Network(params, images, batch, bench.device)
    bench.kernels(strict=False, precision="tf32")
    torch.backends.cudnn.benchmark = False
    actions: dict[str, Callable[[], object]] = {}
    rows: dict[str, Row] = {}
    eager = network.call(bench)().clone()
    for name, (how, precision) in VARIANTS.items():
        if (how.get("mode") == "graphs" and bench.device.type != "cuda") or (how.get("mode") and bench.late):
            continue
        call = network.call(bench, **how)

        def action(call: Callable[[], Tensor] = call, precision: str = precision) -> Tensor:
            torch.backends.cudnn.conv.fp32_precision = precision
            return call()

        began = time.perf_counter()
        try:
            for _ in range(3):  # with graphs the second call is recorded
                out = action()
            bench.wait()
        except Exception as error:
            rows[name] = {"what": name, "error": f"{type(error).__name__}: {error}"[:300]}
            continue
        rows[name] = {
            "what": name,
            "first_seconds": time.perf_counter() - began,
            "off_eager": float((out - eager).abs().max() / eager.abs().max()),
        }
        actions[name] = action
    steps = 10
    actions["sampler, a step"] = lambda: [list(serial_map(partial_sample(network, params, steps), [0]))]
    for name, ms in bench.in_turns(actions, 5).items():
        each = [taken / steps for taken in ms] if name == "sampler, a step" else ms
        rows.setdefault(name, {"what": name}).update(spread(each))
        rows[name]["images_per_second"] = batch / (statistics.median(each) * T) * 1e3
    return list(rows.values())


def partial_sample(network: Network, params: Params, steps: int) -> Callable[[object], Tensor]:
    """So many steps of the stage's loop, with its kernels and its noise, which the host draws image by image."""
    s, shape = build_schedule(params.process), network.x.shape
    ids, times = range(len(network.x)), list(range(params.process.T, 0, -params.process.T // steps))[:steps]

    def draw(_: object) -> Tensor:
        return sample(
            network.net,
            s,
            network.x,
            Ancestral(),
            times=times,
            noise=lambda k, _: normal_per_image(0, "sample", ids, k, shape[1:]),
            target=params.model.predicts,
        )

    return draw


def show(title: str, rows: list[Row]) -> None:
    """In Markdown."""
    print(f"\n### {title}\n\n| | ms | least | most | images/s | first calls, s | largest distance from eager |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        if "error" in row:
            print(f"| {row['what']} | {row['error']} |")
            continue
        numbers = [f"{row[key]:.2f}" for key in ("ms", "least", "most")]
        numbers.append(f"{row['images_per_second']:.2f}" if "images_per_second" in row else "")
        numbers.append(f"{row['first_seconds']:.1f}" if "first_seconds" in row else "")
        numbers.append(f"{row['off_eager']:.1e}" if "off_eager" in row else "")
        print(f"| {row['what']} | {' | '.join(numbers)} |", flush=True)


PARTS = {"training": training, "calls": calling}


def main() -> None:
    """Measure, print tables, write JSON after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--presets", nargs="+", default=["cifar10", "digits"], help="files of presets/, without .yaml")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=120, help="after which nothing more begins")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=3, help="training steps of a variant in a round")
    parser.add_argument("--batch-size", type=int, help="of training, instead of the preset's")
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    asked = parser.parse_args()
    bench = Bench(asked.device, asked.seconds, asked.rounds, asked.calls, asked.backend)
    kind = torch.cuda.get_device_name(0) if bench.device.type == "cuda" else "cpu"
    found: dict[str, Any] = {"device": kind, "torch": torch.__version__}
    print(f"{kind}, torch {torch.__version__}")
    for title, part in ((title, PARTS[title]) for title in asked.parts):
        for preset in asked.presets:
            measured = Measured(preset, 1, asked.calls, asked.batch_size, None, None, 0)
            params = measured.params()
            if bench.late:
                print(f"\n{preset}, {title}: left out")
                continue
            torch._dynamo.reset()
            found[f"{preset}, {title}"] = rows = part(bench, params, open_images(measured, params))
            show(f"{preset}, {title}", rows)
            asked.out.write_text(json.dumps(found | {"seconds": time.monotonic() - BEGAN}, indent=1))
    print(f"\n{time.monotonic() - BEGAN:.0f} s")


if __name__ == "__main__":
    main()
