"""A Ray cluster of two nodes on this machine, of which one or both see neither this project nor a copy of it.

Such a node lives in a mount namespace of its own, where empty file systems lie over those folders. That wants root.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.end_to_end.project import ROOT

TOKEN = "a" * 32

HIDDEN = """
set -e
cd /
mkdir -p "$KEPT"
mount --bind "$PREFIX" "$KEPT"
for folder in $FOLDERS; do mount -t tmpfs tmpfs "$folder"; done
if [ ! -e "$PREFIX/bin" ]; then mkdir -p "$PREFIX"; mount --bind "$KEPT" "$PREFIX"; fi
for folder in $FOLDERS; do mount -o remount,ro "$folder"; done
exec "$@"
"""
"""Nothing can be made there either. The environment of Python stays where it is, also in a folder that is hidden."""


@dataclass(frozen=True)
class Apart:
    """The cluster."""

    address: str
    client: str
    """The same for a driver from outside."""
    environment: Mapping[str, str]
    """Of a driver."""
    cache: Path
    """The second node's."""


@contextmanager
def two_nodes(hidden: list[Path], folder: Path, s3: Mapping[str, str], *, both: bool = False) -> Iterator[Apart]:
    """The cluster, each node with one CPU.

    Args:
        hidden: what the second node does not see, besides this project.
        folder: for logs and caches.
        s3: environment variables that lead to the storage.
        both: whether the first node does not see it either.
    """
    port, client = _free_port(), _free_port()
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    there = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "PYTHONPATH")}
    there |= {**token, **s3, "RAY_USAGE_STATS_ENABLED": "0", "PATH": f"{Path(sys.executable).parent}:{there['PATH']}"}
    there |= {"GRPC_ENABLE_FORK_SUPPORT": "0"}  # else a child of Ray's client server dies at birth now and then
    common = ["--block", "--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats"]
    with ExitStack() as stack:
        short = [Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp"))) for _ in range(2)]
        kept = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kept-", dir="/tmp")))
        blind = ["unshare", "-m", "sh", "-c", HIDDEN, "sh"]
        there |= {"KEPT": str(kept), "PREFIX": sys.prefix, "FOLDERS": " ".join(map(str, [ROOT, *hidden]))}
        head = ["ray", "start", "--head", f"--port={port}", f"--ray-client-server-port={client}", *common]
        head += ["--include-dashboard=false", "--node-ip-address=127.0.0.1", f"--temp-dir={short[0]}"]
        start = lambda command, name: stack.enter_context(  # noqa: E731
            _running(command, folder / f"{name}.log", there | {"PIPELINES_CACHE": str(folder / name)})
        )
        start([*blind, *head] if both else head, "first")
        for each in (port, client):
            _wait_for_port(each)
        second = ["ray", "start", f"--address=127.0.0.1:{port}", *common]
        second += ["--node-ip-address=127.0.0.1", f"--temp-dir={short[1]}"]
        start([*blind, *second], "second")
        address = f"127.0.0.1:{port}"
        yield Apart(address, f"ray://127.0.0.1:{client}", token | dict(s3), folder / "second")


@contextmanager
def _running(command: list[str], log: Path, environment: Mapping[str, str]) -> Iterator[None]:
    with log.open("w") as file:
        process = subprocess.Popen(command, env=dict(environment), stdout=file, stderr=file, start_new_session=True)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def _wait_for_port(port: int) -> None:
    for _ in range(240):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.5)
    raise RuntimeError("the first node did not start within two minutes")


def can_hide() -> bool:
    """Whether this machine lets us make a namespace with mounts of its own."""
    command = ["unshare", "-m", "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0
