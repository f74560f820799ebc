"""What the answers of a job server, or of what is in front of it, say of a job."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from pipelines.backends.backend import AlreadyThere, State, Submission, Unreachable
from pipelines.backends.ray_jobs import RayJobs
from pipelines.errors import PipelineError

NAME = "train-0000000000000000-000000-1"
TRACEBACK = "Traceback (most recent call last):\n  File ..\nFileNotFoundError: [Errno 2] /tmp/ray/404 does not exist"
VERSION = json.dumps({"version": "4", "ray_version": "2", "ray_commit": "", "session_name": ""})


class Server(ThreadingHTTPServer):
    """Gives one answer to all questions about jobs."""

    answer = (200, "")


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"  # a connection stays until the one who asks closes it

    def do_GET(self) -> None:
        self._say(*((200, VERSION) if self.path == "/api/version" else self.server.answer))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._say(*self.server.answer)

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._say(200, "")

    def _say(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    """On this machine."""
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield server
        server.shutdown()


def address_of(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def test_a_job_is_missing_where_the_job_server_says_so_itself(server: Server) -> None:
    server.answer = (404, f"Job {NAME} does not exist")
    assert RayJobs(address_of(server)).status(NAME).state is State.MISSING


def test_no_answer_leaves_its_connection_open(server: Server) -> None:
    """Nor waits for Python to collect what refers to itself."""
    server.answer = (404, f"Job {NAME} does not exist")
    backend = RayJobs(address_of(server))
    backend.status(NAME)
    gc.collect()
    gc.disable()
    try:
        backend.status(NAME)
        connections = psutil.Process().net_connections()
        assert server.server_port not in [connection.raddr.port for connection in connections if connection.raddr]
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "answer",
    [
        (500, TRACEBACK),
        (404, "404: Not Found"),
        (404, "Job train-0000000000000000-000000-12 does not exist"),
        (503, f"Job {NAME} does not exist"),
    ],
)
def test_any_other_answer_says_nothing_of_a_job(server: Server, answer: tuple[int, str]) -> None:
    """Else another one would be started beside it."""
    server.answer = answer
    with pytest.raises(Unreachable, match="does not say how job"):
        RayJobs(address_of(server)).status(NAME)


def test_a_list_that_is_refused_is_told_in_a_sentence(server: Server) -> None:
    server.answer = (502, "<html>\nBad Gateway")
    backend = RayJobs(address_of(server))
    with pytest.raises(Unreachable, match=r"does not list its jobs: Bad Gateway"):
        backend.attach("")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((400, f"..\nValueError: Job with submission_id {NAME} already exists. Please ..\n"), AlreadyThere),
        ((500, "..\nOSError: the address is already in use"), PipelineError),
    ],
)
def test_a_job_is_there_already_where_the_job_server_says_so(
    server: Server, tmp_path: Path, answer: tuple[int, str], error: type[PipelineError]
) -> None:
    server.answer = answer
    code = tmp_path / "code"
    code.mkdir()
    (code / "a.py").touch()
    with pytest.raises(PipelineError) as raised:
        RayJobs(address_of(server)).submit(Submission(NAME, ("python", "-m", "a"), code))
    assert raised.type is error
