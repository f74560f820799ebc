"""The first word at a cluster's port, with servers that speak TLS and others."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pipelines.cluster import knock as module
from pipelines.cluster.knock import knock
from tests.infra.servers import INFRA

SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
VARIABLES = ("RAY_TLS_CA_CERT", "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of another authority."""
    return make(tmp_path_factory.mktemp("others"))


def make(folder: Path) -> Path:
    subprocess.run([INFRA / "tls/make-certificates.sh", folder, "localhost"], check=True, capture_output=True)
    return folder


@pytest.fixture(autouse=True)
def no_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_USE_TLS", *VARIABLES):
        monkeypatch.delenv(name, raising=False)


def speak_tls(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """From now on this machine is told to."""
    monkeypatch.setenv("RAY_USE_TLS", "1")
    for name, file in zip(VARIABLES, ("ca.crt", "tls.crt", "tls.key"), strict=True):
        monkeypatch.setenv(name, str(folder / file))


@pytest.fixture
def plain() -> Iterator[int]:
    """The port of a server that answers as gRPC does."""
    yield from serving(None)


@pytest.fixture
def secret(certificates: Path) -> Iterator[int]:
    """The same in TLS, for those with a certificate of its authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates / "ca.crt")
    context.load_cert_chain(certificates / "tls.crt", certificates / "tls.key")
    context.verify_mode = ssl.CERT_REQUIRED
    yield from serving(context)


def serving(context: ssl.SSLContext | None) -> Iterator[int]:
    def in_tls(connection: socket.socket) -> socket.socket:
        return context.wrap_socket(connection, server_side=True) if context else connection

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection = server.accept()[0]
                with connection, suppress(OSError), in_tls(connection) as spoken:
                    spoken.sendall(SETTINGS)
                    spoken.recv(100)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_both_speak_alike(plain: int, secret: int, certificates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    knock("127.0.0.1", plain)
    speak_tls(monkeypatch, certificates)
    knock("127.0.0.1", secret)


def test_only_the_cluster_speaks_tls(secret: int) -> None:
    with pytest.raises(OSError, match="as one that speaks TLS: set RAY_USE_TLS=1"):
        knock("127.0.0.1", secret)


def test_only_this_machine_speaks_tls(plain: int, certificates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speak_tls(monkeypatch, certificates)
    with pytest.raises(OSError, match=r"no TLS with it \(.*\): does it speak TLS"):
        knock("127.0.0.1", plain)


def test_another_authority(secret: int, others: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speak_tls(monkeypatch, others)
    with pytest.raises(OSError, match="signed by its authority"):
        knock("127.0.0.1", secret)


def test_a_certificate_of_another_authority(
    secret: int, certificates: Path, others: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speak_tls(monkeypatch, others)
    monkeypatch.setenv("RAY_TLS_CA_CERT", str(certificates / "ca.crt"))
    with pytest.raises(OSError, match="signed by its authority"):
        knock("127.0.0.1", secret)


def test_certificates_that_are_not_there(plain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with pytest.raises(OSError, match="cannot be read"):
        knock("127.0.0.1", plain)


def test_one_that_is_slow_may_be_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KNOCK_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        knock("127.0.0.1", server.getsockname()[1])


def test_nobody() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            knock("127.0.0.1", free.getsockname()[1])
