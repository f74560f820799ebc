"""Names of places that mean the same on every machine."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from pipelines.cluster.token import on_this_machine, shown


def of_folder(folder: Path) -> str:
    """A folder of this machine."""
    return f"{socket.gethostname()}:{folder.absolute()}"


def of_shared_folder(folder: Path) -> str:
    """A folder that several machines see, perhaps by other paths: a name that it is given once."""
    folder.mkdir(parents=True, exist_ok=True)
    name = folder / ".place"
    with suppress(FileExistsError):
        ours = folder / f".place.{secrets.token_hex(8)}"
        ours.write_text(ours.suffix[1:])
        try:
            name.hardlink_to(ours)  # whole, and one of several at once
        finally:
            ours.unlink()
    return name.read_text()


def of_server(address: str) -> str:
    """A server, with this machine's name before it where the address leads elsewhere from another one."""
    host = urlsplit(address).hostname or "localhost"
    return f"{socket.gethostname()}:{shown(address)}" if on_this_machine(host) else shown(address)
