"""Small TorchScript files that stand where the weights of Inception and CLIP do, and a server that hands them out."""

from __future__ import annotations

import sys
import threading
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.data.manifest import file_sha256
from pipelines.measure.pretrained import Pretrained, PretrainedName
from pipelines.measure.weights import Pinned


class Means(nn.Module):
    """The first `features` means over patches of an image."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, [27, 27]).flatten(1)[:, : self.features]


class Inception(nn.Module):
    """With the parts of the real file that clean-fid touches."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = Means(2048)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def pretrained(name: PretrainedName, folder: Path) -> Pretrained:
    """A network of that name with a file of its own, made in `folder`."""
    file = folder / f"{name}.pt"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
        torch.jit.script(Inception() if name == "inception" else Means(512)).save(str(file))
    file.chmod(0o600)
    return Pretrained(name, Pinned(file.name, "http://127.0.0.1:1/", file_sha256(file)), file)


@pytest.fixture
def open_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of that name that reads the stand-in."""
    module = types.ModuleType("open_clip")
    module.__spec__ = ModuleSpec("open_clip", None)

    def load_openai_model(file: str, precision: str, device: str) -> object:
        assert precision == "fp32"
        return _Clip(torch.jit.load(file, map_location=device))

    module.load_openai_model = load_openai_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "open_clip", module)


class _Clip(nn.Module):
    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def encode_image(self, x: Tensor) -> Tensor:
        return self.visual(x)


@contextmanager
def serving(content: bytes, *, length: int | None = None) -> Iterator[tuple[str, list[str]]]:
    """The address of a server that gives `content`, and what it was asked.

    Args:
        length: what it says the length is; the connection ends after `content` all the same.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content) if length is None else length))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/weights.pt", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
