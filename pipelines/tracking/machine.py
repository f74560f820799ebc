"""How busy a machine is: CPU, memory, disk, network and GPUs, under the names that MLflow's own system metrics have.

Read with psutil and NVML, not through MLflow, whose import takes seconds that a training worker should not spend.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

EVERY_S = 10.0
"""Seconds between two readings."""
_MEGABYTE = 1e6


class Machine:
    """The one that this process runs on."""

    def __init__(self) -> None:
        import psutil

        self._psutil = psutil
        self._nvml, self._gpus = _gpus()
        self._network = psutil.net_io_counters()
        psutil.cpu_percent()  # the next one is since now

    def describe(self) -> str:
        """Its kind, without its name: `x86_64, 16 CPUs, 128 GB, NVIDIA H100 80GB HBM3`."""
        memory = self._psutil.virtual_memory().total / 1e9
        names = [self._nvml.nvmlDeviceGetName(gpu) for gpu in self._gpus]
        return ", ".join([platform.machine(), f"{os.cpu_count()} CPUs", f"{memory:.0f} GB", *names])

    def read(self) -> dict[str, float]:
        """The share of the CPUs is since the last reading, the network since the first."""
        memory, disk = self._psutil.virtual_memory(), self._psutil.disk_usage(os.sep)
        network = self._psutil.net_io_counters()
        return {
            "cpu_utilization_percentage": self._psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / _MEGABYTE,
            "system_memory_usage_percentage": 100 * memory.used / memory.total,
            "disk_usage_percentage": disk.percent,
            "disk_usage_megabytes": disk.used / _MEGABYTE,
            "disk_available_megabytes": disk.free / _MEGABYTE,
            "network_receive_megabytes": (network.bytes_recv - self._network.bytes_recv) / _MEGABYTE,
            "network_transmit_megabytes": (network.bytes_sent - self._network.bytes_sent) / _MEGABYTE,
            **{name: value for k, gpu in enumerate(self._gpus) for name, value in self._of_gpu(k, gpu).items()},
        }

    def _of_gpu(self, k: int, gpu: Any) -> dict[str, float]:
        """What the driver tells of it: of one that is divided (MIG), no utilisation."""
        numbers: dict[str, float] = {}
        with suppress(self._nvml.NVMLError):
            memory = self._nvml.nvmlDeviceGetMemoryInfo(gpu)
            numbers[f"gpu_{k}_memory_usage_megabytes"] = memory.used / _MEGABYTE
            numbers[f"gpu_{k}_memory_usage_percentage"] = 100 * memory.used / memory.total
        with suppress(self._nvml.NVMLError):
            numbers[f"gpu_{k}_utilization_percentage"] = float(self._nvml.nvmlDeviceGetUtilizationRates(gpu).gpu)
        return numbers


@contextmanager
def watched(tell: Callable[[Machine], None], every_s: float = EVERY_S) -> Iterator[None]:
    """Tell of this machine from a thread, now and then during the block and at its end.

    It is nice to have: an error in it ends the telling and nothing else.
    """
    end = threading.Event()

    def watch() -> None:
        with suppress(Exception):
            machine = Machine()
            over = False
            while not over:
                over = end.wait(every_s)
                tell(machine)

    thread = threading.Thread(target=watch, name="machine", daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(1)


class Work:
    """What a stage's work took, for the run that it opens when it knows its results."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.seconds = 0.0
        """From its beginning to its end."""
        self.readings: list[tuple[int, dict[str, float]]] = []
        """Seconds since its beginning, and the machine then."""

    def hear(self, machine: Machine) -> None:
        """Take a reading."""
        self.readings.append((round(time.monotonic() - self._began), machine.read()))

    def end(self) -> None:
        """It is done."""
        self.seconds = time.monotonic() - self._began


@contextmanager
def work() -> Iterator[Work]:
    """The block is a stage's work on this machine."""
    done = Work()
    with watched(done.hear):
        yield done
    done.end()


def _gpus() -> tuple[Any, list[Any]]:
    """NVIDIA's library and its GPUs; none where it is not installed or finds none."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return pynvml, [pynvml.nvmlDeviceGetHandleByIndex(k) for k in range(pynvml.nvmlDeviceGetCount())]
    except Exception:
        return None, []
