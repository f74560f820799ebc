"""What a training step costs on 1 and 2 machines, and over slower links. The tables of docs/scaling.md; needs root.

    python benchmarks/scaling.py --rounds 7 measured.json
    python benchmarks/scaling_model.py measured.json docs/scaling.png

The machines are network namespaces of this one; each worker has one thread and one core to itself. Of four two share
one, so that only the bytes that they send say something. In each round every case makes one step after the other, so
that whatever else this machine does falls on all.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scaling_worker import MODES, Place, Work, told  # noqa: E402

from tests.cluster.network import Host, Network  # noqa: E402

RATES = (1000.0, 300.0, 100.0)
"""Mbit/s of a slowed link, in each direction."""
NUMBER, BUCKET = 4, 4 * 2**20
"""Bytes of a message: one number; a bucket of strict reduction."""


@dataclass(frozen=True)
class Case:
    """What is measured."""

    mode: str
    workers: int
    shards: int
    """Of the whole step."""
    mbit_per_s: float | None
    """None: as fast as this machine carries it."""


@dataclass
class Samples:
    """Of one case."""

    case: Case
    seconds: list[float]
    """Of each step, on the slowest worker."""
    sent: list[int]
    """Bytes in each step, on the worker that sends most."""


class Gang:
    """Workers on hosts of their own."""

    def __init__(self, network: Network, work: Work, workers: int) -> None:
        self.network = network
        self.hosts = [network.add(f"w{workers}-{rank}") for rank in range(workers)]
        self._processes = [self._start(host, rank) for rank, host in enumerate(self.hosts)]
        for rank in range(workers):
            self._write(rank, told(work, Place(rank, workers, self.hosts[0].address)))
        for rank in range(workers):
            self._read(rank)

    @staticmethod
    def _start(host: Host, rank: int) -> subprocess.Popen[str]:
        core = str(sorted(os.sched_getaffinity(0))[rank % len(os.sched_getaffinity(0))])
        command = host.command(
            "taskset", "-c", core, sys.executable, str(Path(__file__).with_name("scaling_worker.py"))
        )
        environment = {**os.environ, "GLOO_SOCKET_IFNAME": "eth0", "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True, bufsize=1
        )

    def _write(self, rank: int, line: str) -> None:
        stream = self._processes[rank].stdin
        assert stream is not None
        stream.write(line + "\n")

    def _read(self, rank: int) -> Any:
        stream = self._processes[rank].stdout
        assert stream is not None
        if not (line := stream.readline()):
            raise RuntimeError(f"worker {rank} of {len(self.hosts)} has ended; what it said is above")
        return json.loads(line)

    def ask(self, *what: Any) -> list[Any]:
        """The answers of all workers."""
        for rank in range(len(self.hosts)):
            self._write(rank, json.dumps(what))
        return [self._read(rank) for rank in range(len(self.hosts))]

    def step(self, samples: Samples, *, counts: bool) -> None:
        """Make one step of a case, and note it where it counts."""
        case = samples.case
        before = [self.network.traffic(host) for host in self.hosts]
        seconds = self.ask("step", case.mode, case.shards)
        after = [self.network.traffic(host) for host in self.hosts]
        if counts:
            samples.seconds.append(max(seconds))
            samples.sent.append(max((now - then).sent for now, then in zip(after, before, strict=True)))

    @contextmanager
    def slowed(self, mbit_per_s: float | None) -> Iterator[None]:
        """All links at this rate."""
        if mbit_per_s is None:
            yield
            return
        for host in self.hosts:
            self.network.slow(host, mbit_per_s)
        yield
        for host in self.hosts:
            self.network.fast(host)

    def close(self) -> None:
        """End the workers."""
        for process in self._processes:
            process.kill()
            process.communicate()


def cases(work: Work) -> list[Case]:
    """One worker with the whole step, with a half and with a quarter; two workers, at each rate; four."""
    alone = [Case(mode, 1, work.shards // part, None) for part in (1, 2, 4) for mode in MODES]
    two = [Case(mode, 2, work.shards, rate) for rate in (None, *RATES) for mode in MODES]
    return alone + two + [Case(mode, 4, work.shards, None) for mode in MODES]


def measure(work: Work, rounds: int) -> dict[str, Any]:
    """All cases in turn, `rounds` times after one that does not count."""
    with Network() as network, ExitStack() as stack:
        gangs = {}
        for workers in (1, 2, 4):
            gangs[workers] = Gang(network, work, workers)
            stack.callback(gangs[workers].close)
        arrivals = gangs[1].ask("arrivals")[0]
        all_samples = [Samples(case, [], []) for case in cases(work)]
        for number in range(rounds + 1):
            for samples in all_samples[:: 1 if number % 2 else -1]:
                gang = gangs[samples.case.workers]
                with gang.slowed(samples.case.mbit_per_s):
                    gang.step(samples, counts=number > 0)
            print(f"\r{number} of {rounds}", end="", file=sys.stderr, flush=True)
        links = []
        for rate in (None, *RATES):
            with gangs[2].slowed(rate):
                number, bucket = (gangs[2].ask("message", size)[0] for size in (NUMBER, BUCKET))
            links.append({"mbit_per_s": rate, "number": number, "bucket": bucket})
    return {
        "work": asdict(work),
        "arrivals": arrivals,
        "bucket": BUCKET,
        "links": links,
        "samples": [asdict(samples) for samples in all_samples],
    }


def show(measured: dict[str, Any]) -> None:
    """The table in Markdown."""
    size = sum(size for size, _ in measured["arrivals"])
    print(f"\ngradient of {size / 1e6:.1f} MB\n")
    print("| link, Mbit/s | a number, ms | 4 MiB, ms | Mbit/s each way | of the processor, ms |\n|---|---|---|---|---|")
    for link in measured["links"]:
        (number, _), (bucket, own) = link["number"], link["bucket"]
        print(f"| {link['mbit_per_s'] or 'full'} | {1e3 * number:.2f} | {1e3 * bucket:.1f}", end=" | ")
        print(f"{8e-6 * BUCKET / bucket:.0f} | {1e3 * own:.1f} |")
    print("\n| reduction | machines | shards | link, Mbit/s | least s/step | median | most | sent, MB | / gradient |")
    print("|---|---|---|---|---|---|---|---|---|")
    for each in measured["samples"]:
        case, seconds, sent = each["case"], each["seconds"], statistics.median(each["sent"])
        rate = "full" if case["mbit_per_s"] is None else f"{case['mbit_per_s']:g}"
        row = (case["mode"], case["workers"], case["shards"], rate, f"{min(seconds):.3f}")
        row += (f"{statistics.median(seconds):.3f}",)
        row += (f"{max(seconds):.3f}", f"{sent / 1e6:.2f}", f"{sent / size:.3f}")
        print("|", " | ".join(map(str, row)), "|")


def main() -> None:
    """Measure, print, and keep what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("file", type=Path, help="where what was measured goes, as JSON")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--channels", type=int, default=Work.channels)
    parser.add_argument("--images", type=int, default=Work.images, help="of one virtual shard")
    asked = parser.parse_args()
    measured = measure(Work(asked.channels, images=asked.images), asked.rounds)
    asked.file.write_text(json.dumps(measured) + "\n")
    show(measured)


if __name__ == "__main__":
    main()
