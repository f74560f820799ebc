"""What a person is told of servers that refuse, are no MLflow, or lack a part of it. No password is ever in it."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipelines.errors import TrackingError
from pipelines.settings import Settings, TrackingSettings
from pipelines.tracking import sender
from pipelines.tracking.refusals import CredentialsRefused, first_line, redact, tracking_errors
from pipelines.tracking.run import stage_run
from pipelines.tracking.spool import Spool, spool_folder
from pipelines.tracking.store import connect

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own

PAGE = b"<!doctype html><title>Welcome to nginx!</title>"


class Server:
    """Answers every request with the same."""

    def __init__(self) -> None:
        self.status, self.content, self.requests = 200, b"{}", 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None: ...

            def do_GET(self) -> None:
                outer.requests += 1
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(outer.content)))
                self.end_headers()
                self.wfile.write(outer.content)

            do_POST = do_GET

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def settings(self) -> Settings:
        uri = f"http://ada:secret@127.0.0.1:{self.server.server_port}"
        return Settings(tracking=TrackingSettings(uri=uri, timeout_s=2, retries=1))


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("content", [b"You are not authenticated.", b'{"error_code": %d, "message": "go away"}'])
def test_credentials_that_are_refused_are_not_tried_again_and_not_told(
    workplace, server, capsys, monkeypatch, status, content
):
    monkeypatch.setattr(sender, "_EVERY_S", 0.01)
    server.status, server.content = status, content % status if b"%d" in content else content
    with stage_run("train", workplace.params, server.settings, key="k") as tracker:
        tracker.metrics(1, {"loss": 0.5})
        for thread in [each for each in threading.enumerate() if each.name == "mlflow-sender"]:
            thread.join(60)  # it gives up by itself
            assert not thread.is_alive()
    said = capsys.readouterr().err
    assert f"it refuses these credentials ({status}: " in said
    assert "MLFLOW_TRACKING_PASSWORD" in said
    assert "secret" not in said
    assert server.requests == 1
    (left,) = Spool.leftovers()
    assert [event["value"] for event in left.events() if "metric" in event] == [0.5]


@pytest.mark.parametrize(("status", "content"), [(200, PAGE), (404, PAGE), (200, b"[1, 2]"), (405, b"")])
def test_what_is_no_mlflow_is_named_so(workplace, server, status, content):
    server.status, server.content = status, content
    with pytest.raises(TrackingError, match="no MLflow server, or lacks what is asked for") as raised:
        connect(server.settings, "digits")
    assert not isinstance(raised.value, CredentialsRefused)
    assert "secret" not in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_server_without_a_registry_is_named_so(workplace, server):
    server.content = b'{"experiment": {"experiment_id": "1", "name": "digits", "lifecycle_stage": "active"}}'
    store = connect(server.settings, "digits")
    server.status, server.content = 404, b'{"error_code": "ENDPOINT_NOT_FOUND", "message": "no such endpoint"}'
    with (
        pytest.raises(TrackingError, match="no MLflow server, or lacks what is asked for"),
        tracking_errors(server.settings),
    ):
        store.client.search_registered_models()


def test_a_server_that_fails_is_asked_again_and_said_to_fail(workplace, server):
    server.status = 503
    with pytest.raises(TrackingError, match="it answers 503; its log says why"):
        connect(server.settings, "digits")
    assert server.requests == 2


def test_a_stage_ends_with_one_line_whatever_answers(workplace, server, capsys, tmp_path):
    server.content = PAGE
    (tmp_path / "note.txt").write_text("look at me")
    with stage_run("train", workplace.params, server.settings, key="k") as tracker:
        tracker.metrics(1, {"loss": 0.5, "gradient_norm": 1.0})
        tracker.artifact(tmp_path / "note.txt")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("not yet in MLflow: 1 fact, 1 file, 2 numbers (the MLflow server (tracking.uri) could not")
    assert line.endswith("kept, and sent by a later stage or `python -m pipelines.sync`")
    assert len(list(spool_folder().glob("*.jsonl"))) == 1


@pytest.mark.parametrize("password", ["pw", "p@ss/w", "p/ss", "p'q", "p?#w", "p:w"])
def test_a_password_of_any_signs_is_not_told(password):
    text = f"could not reach postgresql://me:{password}@host/db and http://me:{password}@host:1 today"
    assert redact(text) == "could not reach postgresql://***@host/db and http://***@host:1 today"
    assert redact("http://host/a is away; ask me@host") == "http://host/a is away; ask me@host"


def test_an_error_without_words_is_named_by_its_kind():
    assert first_line(OSError()) == "OSError"
    assert first_line(OSError("http://me:pw@host is away\nand more")) == "http://***@host is away"
