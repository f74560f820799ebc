"""What workers of a training send each other, over a slow link."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.cluster.network import Host, Network
from tests.end_to_end.project import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(120)]

EXCHANGE = """
import sys, time
import torch
import torch.distributed as dist
from diffusion.training.messages import exchange
rank, numbers = int(sys.argv[2]), int(sys.argv[3])
dist.init_process_group("gloo", init_method=f"tcp://{sys.argv[1]}:5000", rank=rank, world_size=2)
ours, theirs = torch.full((numbers,), rank), torch.empty(numbers, dtype=torch.int64)
dist.barrier()
began = time.perf_counter()
exchange(ours, theirs, 1 - rank)
print(time.perf_counter() - began)
assert (theirs == 1 - rank).all()
"""


def start(host: Host, *arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "eth0", "PYTHONPATH": str(ROOT)}
    command = host.command(sys.executable, "-c", EXCHANGE, *map(str, arguments))
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_an_exchange_uses_both_ways_of_a_link_at_once(network: Network) -> None:
    """Two megabytes each way at 16 Mbit/s: a second, and two if one way waited for the other."""
    first, second = network.add("first"), network.add("second")
    for host in (first, second):
        network.slow(host, mbit_per_s=16)
    workers = [start(host, first.address, rank, 250_000) for rank, host in enumerate((first, second))]
    try:
        for worker in workers:
            said = worker.communicate(timeout=90)[0]
            assert worker.returncode == 0
            assert 0.9 < float(said) < 1.5
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
