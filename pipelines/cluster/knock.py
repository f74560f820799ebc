"""A first word at a Ray cluster's port: whether somebody is there, and speaks TLS as this machine is told to.

Ray itself would go on trying for a quarter of an hour, whatever is wrong, and then not say what.
"""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import suppress

_KNOCK_S = 10.0
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""With which every conversation of gRPC begins: HTTP/2's preface and empty settings."""
_ALERT = b"\x15\x03"
"""With which an answer in TLS to that begins."""


def knock(host: str, port: int) -> None:
    """Return if Ray may be there.

    Raises:
        OSError: nobody is there, or one of the two sides speaks TLS and the other does not, or not with that
            certificate. The text says which.
    """
    with socket.create_connection((host, port), _KNOCK_S) as connection:
        if os.environ.get("RAY_USE_TLS", "").lower() in ("1", "true"):
            _knock_in_tls(connection)
        elif _answer(connection)[:2] in (b"", _ALERT):
            raise ConnectionError(
                "it closed the connection at the first word, as one that speaks TLS: set RAY_USE_TLS=1 and where its "
                "certificates are (docs/security.md)"
            )


def _knock_in_tls(connection: socket.socket) -> None:
    names = ("RAY_TLS_CA_CERT", "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY")
    authority, certificate, key = (os.environ.get(name, "") for name in names)
    try:
        context = ssl.create_default_context(cafile=authority)
        context.load_cert_chain(certificate, key)
    except OSError as error:
        raise ConnectionError(f"RAY_USE_TLS is set, and {', '.join(names)} cannot be read: {error}") from error
    context.check_hostname = False  # Ray's own business
    try:
        with context.wrap_socket(connection) as secret:
            _answer(secret)  # in TLS 1.3 a certificate is refused after the handshake
    except ssl.SSLError as error:
        raise ConnectionError(
            f"no TLS with it ({error.reason}): does it speak TLS, and is RAY_TLS_SERVER_CERT signed by its authority? "
            "Without RAY_USE_TLS none is spoken"
        ) from error


def _answer(connection: socket.socket) -> bytes:
    """The first bytes of it; a word where none comes in time: it may be busy."""
    connection.sendall(_HELLO)
    with suppress(TimeoutError):
        with suppress(ConnectionResetError):
            return connection.recv(2)
        return b""
    return b"later"
