"""A server between a test and the real one that can go wrong in the ways of a network."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Verdict = str | int | None
"""None: pass on; "lose": pass on and break off before the answer; "cut": break off in the middle of the answer's
content; a number: answer with this status at once."""
Judge = Callable[[str, str], Verdict]
"""Of a request's method and path."""


@contextmanager
def proxy(port: int, judge: Judge, said: bytes = b"") -> Iterator[str]:
    """The address of a proxy to `port`, to which it passes on one request at a time.

    `said` is what an answer that is made up says.
    """
    one_at_a_time = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def handle_any(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            verdict = judge(self.command, self.path)
            if isinstance(verdict, int):
                self.answer(verdict, {}, said)
                return
            real = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            with one_at_a_time:
                real.request(self.command, self.path, content, dict(self.headers))
                answer = real.getresponse()
                found = answer.read()
            real.close()
            if verdict == "lose":
                self.close_connection = True
                return
            headers = {name: value for name, value in answer.getheaders() if name.lower() in KEPT}
            self.answer(answer.status, headers, found, cut=verdict == "cut")

        def answer(self, status: int, headers: dict[str, str], content: bytes, cut: bool = False) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if cut else content)
            self.close_connection = cut

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


KEPT = {"etag", "content-type", "content-range", "last-modified"} | {
    f"x-amz-{name}" for name in ("checksum-sha256", "version-id", "meta-mark")
}
