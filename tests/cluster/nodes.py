"""Machines with Ray on them: each a host of its own, with its own processes, name, temporary folder and home.

A machine sees this one's files, but for what is hidden from it; so the project's folder is one that all of them see, if
it is not. It accepts only who has the cluster's token. Its processes end with this one, however that ends.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from tests.cluster.network import Network

PORT, DASHBOARD = 6379, 8265
UP_S = 180.0
"""How long a change of the machines may take: few cores start all of them, and one that is gone is missed late."""
_OBJECT_STORE = 80 * 2**20
_BECOME = """
set -e
hostname "$1"; mount --bind "$2/ray" /tmp/ray; mount --bind "$2/hosts" /etc/hosts
mount -t tmpfs -o size=256m shm /dev/shm
shift 2
while [ "$1" != -- ]; do mount -t tmpfs hidden "$1"; shift; done
shift
exec "$@"
"""
"""Within its own namespaces: name, folder, what to hide, `--`, command."""


class Node:
    """A machine of a cluster."""

    def __init__(self, cluster: Cluster, name: str, cpus: int, token: str, hidden: Sequence[Path]) -> None:
        """See `Cluster.start`."""
        self.name = name
        self.host = cluster.network.add(name)
        self._network = cluster.network
        self._folder = cluster.folder / name
        for each in ("ray", "tmp", "home"):
            (self._folder / each).mkdir(parents=True)
        (self._folder / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n")  # as on every Debian
        self.environment = _environment(self._folder, token) | cluster.environment
        """Of all that runs there, on top of what it is given."""
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL"),
                    *self.host.command("unshare", "-m", "-p", "-u", "-f", "--kill-child", "--mount-proc"),
                    *("sh", "-c", _BECOME, "sh", name, str(self._folder), *map(str, hidden), "--"),
                    *_ray_start(self.host.address, cluster.head, cpus),
                ],
                env={**os.environ, **self.environment},
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> Path:
        """What `ray start` printed; Ray's own logs are in `ray/` beside it."""
        return self._folder / "ray.log"

    @property
    def alive(self) -> bool:
        """Whether it has power."""
        return self._process.poll() is None

    def command(self, *command: str, folder: Path) -> list[str]:
        """The command line that runs `command` in a folder on this machine."""
        (first,) = psutil.Process(self._process.pid).children()
        enter = ("nsenter", "--target", str(first.pid), "--mount", "--uts", "--net", "--pid")
        return [*enter, "env", "-C", str(folder), *command]

    def stop(self) -> None:
        """Ray leaves the cluster in order, and the machine is shut down."""
        for first in psutil.Process(self._process.pid).children():
            first.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        self._process.kill()
        self._process.wait()

    def kill(self) -> None:
        """Its power is gone: all of it stops at once, and not a last packet tells anyone."""
        self._network.cut(self.host)
        self._process.kill()
        self._process.wait()


class Cluster:
    """Machines on one network with one token; the first is the head."""

    def __init__(self, network: Network, folder: Path, environment: Mapping[str, str]) -> None:
        """`environment`: of all processes on all machines."""
        self.network = network
        self.folder = folder
        self.environment = environment
        self.token = secrets.token_hex(32)
        self.nodes: list[Node] = []

    def start(self, name: str, cpus: int = 1, token: str | None = None, hidden: Sequence[Path] = ()) -> Node:
        """Switch another machine on; does not wait.

        Args:
            name: its host name.
            cpus: what Ray counts there.
            token: instead of the cluster's.
            hidden: folders of this machine that are empty there.
        """
        node = Node(self, name, cpus, self.token if token is None else token, hidden)
        self.nodes.append(node)
        return node

    @property
    def head(self) -> str | None:
        """Address of the first machine, None as long as there is none."""
        return self.nodes[0].host.address if self.nodes else None

    @property
    def address(self) -> str:
        """For RAY_ADDRESS."""
        return f"{self.head}:{PORT}"

    @property
    def jobs(self) -> str:
        """Where jobs are handed in."""
        return f"http://{self.head}:{DASHBOARD}"

    def scale(self, count: int) -> list[Node]:
        """So many machines besides the head, each with one CPU: those that lack are switched on, the last ones off."""
        workers = [node for node in self.nodes[1:] if node.alive]
        for node in workers[count:]:
            node.stop()
        for _ in range(len(workers), count):
            self.start(f"node-{len(self.nodes)}")
        self.settle()
        return [node for node in self.nodes[1:] if node.alive]

    def settle(self) -> None:
        """Wait until Ray knows the machines that are on, and takes no other for alive."""
        give_up = time.monotonic() + UP_S
        while (known := self.known()) != (there := {node.host.address for node in self.nodes if node.alive}):
            assert time.monotonic() < give_up, f"Ray knows {known} after {UP_S:.0f} s, on are {there}:\n{self.logs()}"
            time.sleep(0.5)

    def known(self) -> set[str]:
        """Addresses of the machines that Ray takes for alive."""
        ask = urllib.request.Request(f"{self.jobs}/api/v0/nodes", headers={"Authorization": f"Bearer {self.token}"})
        try:
            with urllib.request.urlopen(ask, timeout=10) as answer:
                nodes = json.load(answer)["data"]["result"]["result"]
        except OSError:  # it is not up yet
            return set()
        return {node["node_ip"] for node in nodes if node["state"] == "ALIVE"}

    def logs(self) -> str:
        """What `ray start` printed on all machines."""
        return "\n".join(f"--- {node.name} (on: {node.alive})\n{node.log.read_text()}" for node in self.nodes)

    def close(self) -> None:
        """Switch all off."""
        for node in self.nodes:
            if node.alive:
                node.kill()


def _environment(folder: Path, token: str) -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "RAY_TMPDIR": "/tmp",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def _ray_start(address: str, head: str | None, cpus: int) -> list[str]:
    here = ["ray", "start", "--block", f"--node-ip-address={address}", f"--num-cpus={cpus}"]
    here.append(f"--object-store-memory={_OBJECT_STORE}")
    if head is not None:
        return [*here, f"--address={head}:{PORT}"]
    return [*here, "--head", f"--port={PORT}", f"--dashboard-host={address}", f"--dashboard-port={DASHBOARD}"]
