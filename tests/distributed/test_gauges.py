"""What Prometheus is told of a training: the arithmetic, and the real way through Ray's own endpoint."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffusion.training.points import BoundPoint, LossPoint
from pipelines.cluster.gauges import METRICS, Gauges

LOSS = LossPoint(2, 0.5, 3.0, 0.1)
BOUND = BoundPoint("validation", 4, 0.01, 2.0, 0.5, 0.1, 0.2, 0.3, (1.5, 0.5))


class Recorded(Gauges):
    """Gauges that keep what they would tell Ray."""

    def __init__(self, clock: Iterator[float]) -> None:
        super().__init__("key", batch_size=64, clock=lambda: next(clock))
        self.told: list[tuple[str, float, str]] = []

    def _set(self, name: str, value: float, source: str = "") -> None:
        self.told.append((name, value, source))


def test_the_rate_is_that_of_the_last_seconds() -> None:
    gauges = Recorded(iter([100.0, 102.0, 106.0, 106.0, 108.0, 112.0, 112.0]))
    gauges.started(step=10)
    for step in (20, 40, 50, 52):
        gauges.advanced(step)
    rates = [value for name, value, _ in gauges.told if name == "diffusion_images_per_second"]
    assert rates == [30 * 64 / 6, 12 * 64 / 6]
    assert [value for name, value, _ in gauges.told if name == "diffusion_step"] == [10, 20, 40, 50, 52]


def test_the_newest_points_are_told_once_training_runs() -> None:
    gauges = Recorded(iter([0.0]))
    gauges.measured(LOSS)
    assert gauges.told == []
    gauges.started(0)
    gauges.measured(LOSS)
    gauges.measured(BOUND)
    assert gauges.told[1:] == [
        ("diffusion_loss", 0.5, ""),
        ("diffusion_gradient_norm", 3.0, ""),
        ("diffusion_bound_bits_per_dim", pytest.approx(2.51), "validation"),
    ]


DRIVER = """
import sys, time
from tests.distributed.test_gauges import BOUND, LOSS
from pipelines.cluster.gauges import Gauges
from pipelines.cluster.session import ray_session
from pipelines.settings import RaySettings, Settings

with ray_session(Settings(ray=RaySettings(address=sys.argv[1]))):
    now = iter([0.0, 5.0, 5.0])
    gauges = Gauges("the-key", 64, clock=lambda: next(now))
    gauges.started(0)
    gauges.advanced(10)
    gauges.measured(LOSS)
    gauges.measured(BOUND)
    print("set", flush=True)
    time.sleep(120)
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.mark.slow
def test_ray_exports_them(tmp_path: Path) -> None:
    port, metrics = free_ports(2)
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 32, "PYTHONPATH": str(root)}
    environment |= {"RAY_USAGE_STATS_ENABLED": "0", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    head = ["ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=1"]
    head += [f"--metrics-export-port={metrics}", "--include-dashboard=false", "--object-store-memory=80000000"]
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as short, (tmp_path / "log").open("w") as log:
        head += [f"--temp-dir={short}"]  # sockets have short names
        processes = [subprocess.Popen(head, env=environment, stdout=log, stderr=log, start_new_session=True)]
        try:
            wait_for(lambda: socket.create_connection(("127.0.0.1", port), 1).close())
            driver = [sys.executable, "-c", DRIVER, f"127.0.0.1:{port}"]
            processes.append(subprocess.Popen(driver, cwd=root, env=environment, stdout=log, stderr=log))
            found = wait_for(lambda: samples(f"http://127.0.0.1:{metrics}/metrics"))
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
                process.wait(60)
    assert found["ray_diffusion_step"] == 10
    assert found["ray_diffusion_images_per_second"] == 128
    assert found["ray_diffusion_loss"] == 0.5
    assert found["ray_diffusion_bound_bits_per_dim"] == pytest.approx(2.51)


def samples(url: str) -> dict[str, float]:
    """Ours by name; OSError until all are there."""
    text = urllib.request.urlopen(url, timeout=5).read().decode()
    lines = [line for line in text.splitlines() if line.startswith("ray_diffusion") and 'run="the-key"' in line]
    found = {line.split("{")[0]: float(line.rsplit(" ", 1)[1]) for line in lines}
    if len(found) < len(METRICS):
        raise OSError(f"only {sorted(found)}")
    return found


def wait_for(ask):  # type: ignore[no-untyped-def]
    """The answer, as soon as there is one."""
    for _ in range(240):
        try:
            return ask()
        except OSError as error:
            last = error
            time.sleep(0.5)
    raise AssertionError(last)
