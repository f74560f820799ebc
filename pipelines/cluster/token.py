"""Whether a cluster may be talked to: one on another machine only with a token."""

from __future__ import annotations

import os
import re
from ipaddress import ip_address
from pathlib import Path

from pipelines.errors import TrainingError


def refuse_without_token(address: str, host: str, *, insecure: bool) -> None:
    """Stop before anything is sent to a cluster that would take anything from anybody.

    Args:
        address: of the cluster, for the message.
        host: in it, perhaps in brackets.
        insecure: `ray.insecure`.

    Raises:
        TrainingError: it is on another machine, and no token is set.
    """
    if not insecure and not on_this_machine(host.strip("[]")) and not _has_token():
        raise TrainingError(
            f"ray.address is {shown(address)}, on another machine, and no token is set: whoever reaches a cluster "
            "without one can run commands on it. Set RAY_AUTH_MODE=token and the cluster's token (RAY_AUTH_TOKEN, a "
            "file named by RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token); ray.insecure: true joins it all the same"
        )


def shown(address: str) -> str:
    """A cluster's address for messages: without a name or password in it, or what is behind the port."""
    scheme, there, rest = address.partition("://") if "://" in address else ("", "", address)
    return f"{scheme}{there}{re.split('[/?#]', rest.rpartition('@')[2])[0]}"


def on_this_machine(host: str) -> bool:
    """Whether it leads to whoever asks, from any machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _has_token() -> bool:
    """Whether Ray will show a token, looked for where Ray looks for it."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return False
    if os.environ.get("RAY_AUTH_TOKEN"):
        return True
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return (Path(path) if path else Path.home() / ".ray" / "auth_token").is_file()
