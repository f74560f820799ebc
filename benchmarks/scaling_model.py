"""A model of the time of a training step on W machines: against what was measured, and for machines that are not here.

    python benchmarks/scaling_model.py measured.json docs/scaling.png

T(W) = update + (V / W) shard + exposed(W). The update of the weights is made by each worker in full; of V shards each
makes V / W. The gradients go into buckets, which are exchanged one after the other, each as soon as the last backward
pass has brought it; exposed is what is left of that when the backward pass ends. A bucket of n bytes takes

    strict   2 log2(W) message + 2 (W - 1) / W n byte         halves of it to one partner after another, and back
    strict   message + n byte                                 for W = 2: all of it at once
    fast     2 (W - 1) message + 2 (W - 1) / W n byte         DDP's ring: each part of it around twice

with `message` the time of a message without content and `byte` that of a byte on the link. Where the processor itself
carries the bytes (sockets, additions) it cannot compute meanwhile, so at least that time is exposed. Shard and update
follow from one machine alone, message and byte from messages alone: nothing is fitted to steps of several machines.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log2
from pathlib import Path
from statistics import linear_regression
from typing import Any

MEBIBYTE = 2**20
BUCKETS = {"strict": (4 * MEBIBYTE, 4 * MEBIBYTE), "fast": (MEBIBYTE, 25 * MEBIBYTE)}
"""Least bytes of the first bucket and of the others: `diffusion/training/overlap.py`, and what DDP does by default."""


@dataclass(frozen=True)
class Link:
    """Between a worker and all others."""

    byte_s: float
    """Seconds for each byte of a gradient, in each direction."""
    message_s: float
    """Seconds for a message without content."""


@dataclass(frozen=True)
class Costs:
    """What a worker's own part of a step costs, in seconds."""

    shard: float
    update: float
    byte: float
    """Of its processor, for each byte that it exchanges."""


Arrivals = Sequence[tuple[float, float]]
"""Bytes, and the seconds after the beginning of the last backward pass at which they are there; its end comes last."""


def traffic(workers: int) -> float:
    """Bytes that a worker sends for each byte of the gradient."""
    return 2 * (workers - 1) / workers


def messages(mode: str, workers: int) -> float:
    """How many messages a bucket takes, one after the other."""
    if mode == "fast":
        return 2 * (workers - 1)
    return 2 * log2(workers) if workers > 2 else log2(workers)


def buckets(arrivals: Arrivals, mode: str) -> Iterator[tuple[float, float]]:
    """Bytes of each bucket, and when it is complete."""
    least, others = BUCKETS[mode]
    held = 0.0
    for size, at in arrivals:
        held += size
        if held >= least:
            yield held, at
            held, least = 0.0, others
    if held:
        yield held, arrivals[-1][1]


def exposed(mode: str, workers: int, arrivals: Arrivals, link: Link, costs: Costs) -> float:
    """Seconds by which the exchange makes a step longer."""
    if workers == 1:
        return 0.0
    done = 0.0
    for size, at in buckets(arrivals, mode):
        done = max(done, at) + messages(mode, workers) * link.message_s + traffic(workers) * size * link.byte_s
    own = traffic(workers) * sum(size for size, _ in arrivals) * costs.byte
    return max(done - arrivals[-1][1], own)


def step_s(mode: str, workers: int, shards: int, arrivals: Arrivals, link: Link, costs: Costs) -> float:
    """T(W), in seconds."""
    return costs.update + shards / workers * costs.shard + exposed(mode, workers, arrivals, link, costs)


class Measured:
    """What benchmarks/scaling.py has measured. Of the rounds the fastest counts: what else a machine does only adds."""

    def __init__(self, content: dict[str, Any]) -> None:
        self._samples = content["samples"]
        self._links = {each["mbit_per_s"]: each for each in content["links"]}
        self._bucket = int(content["bucket"])
        self.shards = int(content["work"]["shards"])
        self.arrivals: Arrivals = content["arrivals"]
        self.rates: list[float | None] = list(self._links)

    def seconds(self, mode: str, workers: int, rate: float | None = None, shards: int | None = None) -> float:
        """Of a step."""
        wanted = {"mode": mode, "workers": workers, "mbit_per_s": rate, "shards": shards or self.shards}
        (found,) = (each for each in self._samples if each["case"] == wanted)
        return float(min(found["seconds"]))

    def costs(self, mode: str) -> Costs:
        """From one worker with the whole step, a half and a quarter of it: a line through the three."""
        counts = [self.shards // part for part in (1, 2, 4)]
        times = [self.seconds(mode, 1, shards=count) for count in counts]
        slope, update = linear_regression(counts, times)
        return Costs(slope, max(update, 0.0), self._links[None]["bucket"][1] / self._bucket)

    def link(self, rate: float | None) -> Link:
        """From messages without anything else to do."""
        (number, _), (bucket, _) = self._links[rate]["number"], self._links[rate]["bucket"]
        return Link((bucket - number) / self._bucket, number)


def compare(measured: Measured) -> list[tuple[str, float | None, float, float]]:
    """Of two machines: mode, rate, seconds of the model and measured ones."""
    return [
        (
            mode,
            rate,
            step_s(mode, 2, measured.shards, measured.arrivals, measured.link(rate), measured.costs(mode)),
            measured.seconds(mode, 2, rate),
        )
        for mode in BUCKETS
        for rate in measured.rates
    ]


@dataclass(frozen=True)
class Assumed:
    """Machines that are not here. Nothing of this is measured."""

    parameters: float = 35.7e6
    """The CIFAR-10 preset's."""
    shards: int = 256
    """Virtual shards of 16 images: a batch of 4,096."""
    shard: float = 0.050
    """Seconds of one shard on one GPU."""
    update: float = 0.005
    backward: float = 2 / 3
    """The share of a shard's time that its backward pass takes."""
    message: float = 20e-6
    gbit_per_s: tuple[float, ...] = (10, 100, 400)
    """Of each GPU's link. No two messages meet in the network, and no worker waits for a slow one."""

    def step(self, mode: str, workers: int, gbit_per_s: float, profile: Arrivals) -> float:
        """Seconds of a step; gradients arrive as in the measured backward pass, stretched to this one."""
        size, end = sum(n for n, _ in profile), profile[-1][1]
        here = [
            (n / size * 4 * self.parameters, at / end * self.backward * self.shard) for n, at in profile
        ]  # bytes, seconds
        link = Link(8e-9 / gbit_per_s, self.message)
        return step_s(mode, workers, self.shards, here, link, Costs(self.shard, self.update, 0.0))


def show(measured: Measured) -> None:
    """The tables in Markdown."""
    for mode in BUCKETS:
        costs = measured.costs(mode)
        print(
            f"{mode}: a shard {costs.shard * 1e3:.0f} ms, the update {costs.update * 1e3:.0f} ms, the last backward "
            f"pass {measured.arrivals[-1][1] * 1e3:.0f} ms"
        )
    print("\n| reduction | link, Mbit/s | one machine, s | model of two, s | measured, s | measured / model |")
    print("|---|---|---|---|---|---|")
    for mode, rate, model, seen in compare(measured):
        alone = measured.seconds(mode, 1)
        print(f"| {mode} | {rate or 'full'} | {alone:.2f} | {model:.2f} | {seen:.2f} | {seen / model:.2f} |")
    assumed = Assumed()
    print(
        "\n| GPUs | " + " | ".join(f"{mode} {rate:g} Gbit/s" for rate in assumed.gbit_per_s for mode in BUCKETS) + " |"
    )
    print("|---" * (1 + len(BUCKETS) * len(assumed.gbit_per_s)) + "|")
    for workers in (1, 2, 4, 8, 16, 32, 64, 128, 256):
        cells = []
        for rate in assumed.gbit_per_s:
            for mode in BUCKETS:
                seconds = assumed.step(mode, workers, rate, measured.arrivals)
                alone = assumed.step(mode, 1, rate, measured.arrivals)
                cells.append(f"{seconds * 1e3:,.0f} ms, {alone / seconds / workers:.0%}")
        print(f"| {workers} | " + " | ".join(cells) + " |")


def draw(measured: Measured, path: Path) -> None:
    """Left what the model says beside what was measured, right the machines that are not here."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from pipelines.report.pictures.canvas import BLUE, GREEN, ORANGE, headline, label_ends, page

    rows, colours = compare(measured), {"strict": BLUE, "fast": ORANGE}
    with page(path, 760) as figure:
        headline(
            figure,
            "Lines: the model. Dots: measured on two machines",
        )
        here, there = figure.subplots(1, 2)
        for mode, colour in colours.items():
            of_mode = [(model, seen) for m, _, model, seen in rows if m == mode]
            here.plot([model for model, _ in of_mode], color=colour, label=f"{mode}, two machines")
            here.plot([seen for _, seen in of_mode], "o", color=colour, markersize=5)
            here.axhline(
                measured.seconds(mode, 1), color=colour, linestyle=":", linewidth=1.5, label=f"{mode}, one machine"
            )
        here.set_xticks(range(len(measured.rates)), [f"{rate:g}" if rate else "full" for rate in measured.rates])
        here.set(xlabel="link, Mbit/s in each direction", ylabel="seconds per step", ylim=(0, None))
        here.legend(frameon=False, fontsize=9)
        assumed, counts = Assumed(), [2**k for k in range(9)]
        ends = []
        for rate, shade in zip(assumed.gbit_per_s, (ORANGE, BLUE, GREEN), strict=True):
            for mode, style in (("strict", "-"), ("fast", "--")):
                alone = assumed.step(mode, 1, rate, measured.arrivals)
                gains = [alone / assumed.step(mode, w, rate, measured.arrivals) for w in counts]
                there.plot(counts, gains, style, color=shade)
                ends.append((256.0, gains[-1], f"{rate:g} Gbit/s, {mode}", shade))
        there.set(xscale="log", yscale="log", xlabel="GPUs (assumed ones)", ylabel="times as fast as one")
        there.set_xticks(counts, map(str, counts), minor=False)
        there.set_yticks(counts, map(str, counts), minor=False)
        there.minorticks_off()
        figure.canvas.draw()
        label_ends(there, ends)


def main() -> None:
    """Print, and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("measured", type=Path, help="what scaling.py has written")
    parser.add_argument("picture", type=Path, help="a PNG file")
    asked = parser.parse_args()
    measured = Measured(json.loads(asked.measured.read_text()))
    show(measured)
    draw(measured, asked.picture)


if __name__ == "__main__":
    main()
