"""The hosts themselves: what reaches whom, how fast, and what is left of them. A few seconds."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.cluster.network import Host, Network
from tests.end_to_end.project import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(120)]

MEGABYTE = 10**6
RECEIVE = """
import socket, sys
with socket.create_server((sys.argv[1], 5000)) as server:
    server.settimeout(20)
    print("ready", flush=True)
    connection, _ = server.accept()
    connection.settimeout(20)
    got = 0
    while part := connection.recv(1 << 20):
        got += len(part)
        if got == int(sys.argv[2]):
            connection.sendall(b"!")
    print(got, flush=True)
"""
SEND = """
import socket, sys, time
with socket.create_connection((sys.argv[1], 5000), 3) as connection:
    began = time.perf_counter()
    connection.sendall(bytes(int(sys.argv[2])))
    connection.recv(1)
    print(time.perf_counter() - began)
"""

LEAVE = """
import os
from tests.cluster.network import Network
network = Network().__enter__()
network.add("lost")
print(network.name, flush=True)
os.kill(os.getpid(), 9)
"""


def seconds(sender: Host | None, receiver: Host, size: int) -> float:
    """How long `size` bytes take; from this machine if there is no sender."""
    python = [sys.executable, "-c"]
    waiting = subprocess.Popen(
        receiver.command(*python, RECEIVE, receiver.address, str(size)), stdout=subprocess.PIPE, text=True
    )
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "ready\n"
    try:
        command = [*python, SEND, receiver.address, str(size)]
        done = subprocess.run(sender.command(*command) if sender else command, capture_output=True, text=True)
        if done.returncode:
            raise ConnectionError(done.stderr.splitlines()[-1])
        return float(done.stdout)
    finally:
        waiting.kill()
        waiting.communicate()


@pytest.fixture(scope="module")
def pair(network: Network) -> tuple[Host, Host]:
    return network.add("left"), network.add("right")


def test_hosts_reach_each_other_and_this_machine_reaches_them(network: Network, pair: tuple[Host, Host]) -> None:
    left, right = pair
    before = network.traffic(left), network.traffic(right)
    seconds(left, right, MEGABYTE)
    sent, received = (network.traffic(host) - then for host, then in zip(pair, before, strict=True))
    assert MEGABYTE < sent.sent < 1.1 * MEGABYTE
    assert MEGABYTE < received.received < 1.1 * MEGABYTE
    assert sent.received < 0.1 * MEGABYTE
    assert seconds(None, left, 1000) < 3


def test_nothing_passes_a_cut_link_until_it_is_mended(network: Network, pair: tuple[Host, Host]) -> None:
    left, right = pair
    network.cut(right)
    began = time.monotonic()
    with pytest.raises(ConnectionError, match=r"timed out|No route to host"):
        seconds(left, right, 1000)
    assert time.monotonic() - began > 2, "nobody is told that the link is cut"
    assert seconds(None, left, 1000) < 3, "the others' links are whole"
    network.mend(right)
    assert seconds(left, right, 1000) < 3


@pytest.mark.parametrize("slowed", [0, 1], ids=["sender", "receiver"])
def test_a_slow_link_has_its_rate_in_both_directions(network: Network, pair: tuple[Host, Host], slowed: int) -> None:
    network.slow(pair[slowed], mbit_per_s=16)
    assert 0.45 < seconds(*pair, MEGABYTE) < 0.65, "a megabyte at 16 Mbit/s is half a second"
    network.fast(pair[slowed])
    assert seconds(*pair, MEGABYTE) < 0.2


def test_two_networks_are_apart_and_leave_nothing(network: Network, pair: tuple[Host, Host]) -> None:
    with Network() as other:
        host = other.add("left")
        with pytest.raises(ConnectionError, match="unreachable"):
            seconds(pair[0], host, 1000)
    assert other.name not in links_and_namespaces()
    assert network.name in links_and_namespaces()


def test_a_network_that_fails_leaves_nothing_either(network: Network) -> None:
    with pytest.raises(RuntimeError, match="File exists"), Network() as other:
        _ = [other.add("same") for _ in range(2)]
    assert other.name not in links_and_namespaces()


def test_what_a_killed_process_leaves_is_removed_by_the_next(network: Network) -> None:
    done = subprocess.run([sys.executable, "-c", LEAVE], capture_output=True, text=True, cwd=ROOT)
    name = done.stdout.strip()
    assert f"{name}-lost" in links_and_namespaces(), done.stderr
    with Network() as next_one:
        assert next_one.name == name
        assert f"{name}-lost" not in links_and_namespaces()


def links_and_namespaces() -> str:
    return subprocess.run("ip netns; ip link", shell=True, check=True, capture_output=True, text=True).stdout
