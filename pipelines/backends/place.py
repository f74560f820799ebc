"""Names of places that mean the same on every machine."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit


def of_folder(folder: Path) -> str:
    """A folder of this machine."""
    return f"{socket.gethostname()}:{folder.absolute()}"


def of_server(address: str) -> str:
    """A server, with this machine's name before it where the address leads elsewhere from another one."""
    host = urlsplit(address).hostname or "localhost"
    return f"{socket.gethostname()}:{shown(address)}" if _loopback(host) else shown(address)


def shown(address: str) -> str:
    """Without a name or password in it."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
