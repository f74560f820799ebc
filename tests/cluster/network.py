"""Hosts on this machine: network namespaces on one bridge, whose links can be cut, mended and slowed. Needs root.

The machine itself, outside of all hosts, has an address on the bridge too. Nothing here leads further: a host reaches
the other hosts and the machine.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_SUBNETS = range(1, 255)
_BURST = "64kb"
"""How much passes a slowed link at once: one packet as the kernel hands it over, of 64 KiB at most."""
_WAIT_MS = 200
"""How long a packet may wait before a slowed link, before it is dropped and TCP sends less."""


@dataclass(frozen=True)
class Host:
    """A network namespace with one link."""

    name: str
    namespace: str
    address: str
    link: str
    """The link's end at the bridge."""

    def command(self, *command: str) -> list[str]:
        """The command line that runs `command` on this host."""
        return ["ip", "netns", "exec", self.namespace, *command]


@dataclass(frozen=True)
class Traffic:
    """Bytes over a host's link, headers included."""

    sent: int
    received: int

    def __sub__(self, before: Traffic) -> Traffic:
        return Traffic(self.sent - before.sent, self.received - before.received)


class Network:
    """For the length of a block. Names and addresses are no other network's on this machine."""

    def __init__(self) -> None:
        number, self._claimed = _claim()
        self.name, self._prefix = _name(number), f"10.213.{number}"
        self.outside = f"{self._prefix}.1"
        """This machine's address, for its hosts."""
        self.hosts: dict[str, Host] = {}
        self._added = 1

    def __enter__(self) -> Network:
        try:
            _sweep(self.name)
            _ip("link", "add", self.name, "type", "bridge")
            _ip("address", "add", f"{self.outside}/24", "dev", self.name)
            _ip("link", "set", self.name, "up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def add(self, name: str) -> Host:
        """A new host."""
        self._added += 1
        namespace, link, address = f"{self.name}-{name}", f"{self.name}.{self._added}", f"{self._prefix}.{self._added}"
        host = Host(name, namespace, address, link)
        _ip("netns", "add", namespace)
        self.hosts[name] = host
        _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("link", "set", link, "master", self.name, "up")
        _ip("-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", namespace, "link", "set", device, "up")
        return host

    def addresses(self, count: int) -> list[str]:
        """Of the next hosts."""
        return [f"{self._prefix}.{self._added + number}" for number in range(1, count + 1)]

    def cut(self, host: Host) -> None:
        """From now on nothing reaches the host or leaves it, and nobody is told so."""
        _ip("link", "set", host.link, "nomaster")

    def mend(self, host: Host) -> None:
        """Undo `cut`."""
        _ip("link", "set", host.link, "master", self.name)

    def slow(self, host: Host, mbit_per_s: float) -> None:
        """Let no more than this through the host's link, in each direction."""
        rate = f"{mbit_per_s * 1e6:.0f}bit"
        self._queue(host, "replace", "root", "tbf", "rate", rate, "burst", _BURST, "latency", f"{_WAIT_MS}ms")

    def fast(self, host: Host) -> None:
        """Undo `slow`."""
        self._queue(host, "delete", "root")

    def _queue(self, host: Host, verb: str, *what: str) -> None:
        """What waits at both ends of the host's link."""
        _run("tc", "qdisc", verb, "dev", host.link, *what)
        _run("tc", "-n", host.namespace, "qdisc", verb, "dev", "eth0", *what)

    def traffic(self, host: Host) -> Traffic:
        """Since the host is there."""
        counters = Path("/sys/class/net") / host.link / "statistics"
        received, sent = (int((counters / name).read_text()) for name in ("tx_bytes", "rx_bytes"))
        return Traffic(sent, received)

    def close(self) -> None:
        """Remove it; processes that are still there lose their network."""
        _sweep(self.name)
        self.hosts.clear()
        os.close(self._claimed)


def _claim() -> tuple[int, int]:
    """A number that no other process has, and the descriptor of the lock that says so. It ends with the process."""
    for number in _SUBNETS:
        descriptor = os.open(f"/run/{_name(number)}.lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            return number, descriptor
    raise RuntimeError(f"all {len(_SUBNETS)} networks are in use")


def _name(number: int) -> str:
    return f"dpnet{number}"


def _sweep(name: str) -> None:
    """Remove what a process has left that was killed."""
    for namespace in Path("/run/netns").glob(f"{name}-*"):
        _ip("netns", "delete", namespace.name)
    for link in Path("/sys/class/net").glob(f"{name}*"):
        if link.name.partition(".")[0] == name and link.exists():
            _ip("link", "delete", link.name)


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
