"""A cluster of three machines on this one, to try things on. Needs root; ends with Ctrl-C.

    sudo .venv/bin/python -m tests.cluster.playground

The machines are network namespaces: a head without CPUs and two workers with one each, an S3 server, and what to set in
another terminal, in a file.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.cluster.network import Network
from tests.cluster.nodes import Cluster
from tests.conftest import BUCKET, Server

WORKERS = 2


def main() -> None:
    """Start all of it, say how to reach it, wait."""
    if os.geteuid() != 0:
        sys.exit("network namespaces need root")
    if shutil.which("moto_server") is None:
        sys.exit("moto_server is not on PATH: `pip install moto[server]` in an environment of its own")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="playground-") as folder, Network() as network:
        s3 = Server(network.outside)
        cluster = Cluster(network, Path(folder), s3.environment)
        try:
            print("starting S3 and three machines, about a minute", flush=True)
            cluster.start("head", cpus=0)
            cluster.settle()
            cluster.scale(WORKERS)
            settings = _write(Path(folder) / "settings.sh", cluster, s3)
            print(
                f"ready. In another terminal, in the project's folder:\n\n    source {settings}\n\nCtrl-C ends it.",
                flush=True,
            )
            signal.pause()
        except KeyboardInterrupt:
            print("switching off", flush=True)
        finally:
            cluster.close()
            s3.stop()


def _write(path: Path, cluster: Cluster, s3: Server) -> Path:
    """The environment of one who uses it."""
    variables = {
        **s3.environment,
        "RAY_ADDRESS": cluster.jobs,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": cluster.token,
        "PIPELINES__STORAGE__URI": f"s3://{BUCKET}/runs",
    }
    path.touch(mode=0o600)
    path.write_text("".join(f"export {name}={value}\n" for name, value in variables.items()))
    return path


if __name__ == "__main__":
    main()
