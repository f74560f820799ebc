"""A real MLflow server, and a proxy before it that is slow, fails, loses answers or is away, as a test wants."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Mode(Enum):
    """What the proxy does with a request."""

    HEALTHY = auto()
    SLOW = auto()
    FAILS = auto()
    """Answers 500 and passes nothing on."""
    FAILS_AFTER = auto()
    """Passes it on and answers 500."""
    CUTS_AFTER = auto()
    """Passes it on and closes the connection without an answer."""
    LATE = auto()
    """Passes it on when the client has given up waiting."""
    HANGS = auto()
    """Takes it and does nothing until the mode changes."""
    REFUSED = auto()
    """Nobody listens."""


SLOW_S, LATE_S = 0.4, 1.3


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Proxy:
    """Between the client and the server at `port`; `reading_works`: only what changes something is disturbed."""

    def __init__(self, port: int) -> None:
        self._behind = port
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.requests = 0
        self.reading_works = False
        self.fails_at = ""
        """Requests whose path has this in it are answered with 500 and not passed on."""
        self._mode = Mode.HEALTHY
        self._server: ThreadingHTTPServer | None = None
        self._listen()

    @property
    def mode(self) -> Mode:
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._mode = mode
        if mode is Mode.REFUSED:
            self.close()
        elif self._server is None:
            self._listen()

    def close(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _listen(self) -> None:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None: ...

            def handle_one_request(self) -> None:
                with suppress(OSError):  # the client has gone
                    super().handle_one_request()

            def do_GET(self) -> None:
                proxy._pass(self)

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _pass(self, client: BaseHTTPRequestHandler) -> None:
        self.requests += 1
        mode = Mode.FAILS if self.fails_at and self.fails_at in client.path else self._mode
        body = client.rfile.read(int(client.headers.get("Content-Length", 0)))
        if self.reading_works and (client.command == "GET" or client.path.endswith("/search")):
            mode = Mode.HEALTHY
        match mode:
            case Mode.SLOW:
                time.sleep(SLOW_S)
            case Mode.LATE:
                time.sleep(LATE_S)
            case Mode.HANGS:
                while self._mode is Mode.HANGS:
                    time.sleep(0.05)
                client.close_connection = True
                return
            case Mode.FAILS:
                client.send_error(500)
                return
        answer, content = self._ask(client, body)
        if mode is Mode.FAILS_AFTER:
            client.send_error(500)
        elif mode is not Mode.CUTS_AFTER:
            client.send_response(answer.status)
            client.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
            client.send_header("Content-Length", str(len(content)))
            client.end_headers()
            client.wfile.write(content)

    def _ask(self, client: BaseHTTPRequestHandler, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        there = http.client.HTTPConnection("127.0.0.1", self._behind, timeout=60)
        headers = {name: value for name, value in client.headers.items() if name.lower() not in ("host", "connection")}
        there.request(client.command, client.path, body, headers | {"Host": f"127.0.0.1:{self._behind}"})
        answer = there.getresponse()
        content = answer.read()
        there.close()
        return answer, content


@contextmanager
def mlflow_server(folder: Path, artifacts: Path | None = None) -> Iterator[int]:
    """A server of its own with its database in `folder`; its port."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(artifacts or folder / "artifacts")]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=os.environ | quiet, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait(port)
        yield port
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(port: int) -> None:
    for _ in range(600):
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return
        time.sleep(0.1)
    raise RuntimeError("the MLflow server did not start within a minute")
