"""`make ui`: MLflow's pages on the embedded store, on this machine only."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from pipelines.settings import load_settings, tracking_uri


def main() -> None:
    """Serve the embedded store until interrupted, or say where the configured server is."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.ui", description=__doc__)
    parser.add_argument("--port", type=int, default=5000, help="on 127.0.0.1 (default 5000)")
    port: int = parser.parse_args().port
    uri = tracking_uri(load_settings())
    if uri.startswith(("http://", "https://")):
        print("the runs are on the server that tracking.uri names; open it in a browser")
        return
    print(f"MLflow on http://127.0.0.1:{port} (Ctrl-C ends it)", flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    raise SystemExit(
        subprocess.run(
            [*command, "--port", str(port), "--workers", "1"], env=os.environ | quiet, check=False
        ).returncode
    )


if __name__ == "__main__":
    from pipelines.stage import run

    run(main, arguments=True)
