"""The Python environment as a list of what is installed."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from functools import cache
from importlib.metadata import Distribution, distributions

from pipelines.runs.digest import sha256_hex

_OURSELVES = "diffusion-pipelines"


@cache
def installed() -> tuple[str, ...]:
    """`python==3.11.9` and `name==version` of every distribution but this project, sorted."""
    found = {(_normal(name), each.version) for each in distributions() if (name := _name(each))}
    others = sorted(f"{name}=={version}" for name, version in found if name != _OURSELVES)
    return (f"python=={platform.python_version()}", *others)


def environment_text() -> str:
    """One line for each."""
    return "".join(f"{line}\n" for line in installed())


def environment_digest() -> str:
    """SHA-256 (hex) of `environment_text`."""
    return sha256_hex(environment_text().encode())


def differences(there: Sequence[str], here: Sequence[str]) -> list[str]:
    """`name VERSION THERE, VERSION HERE` for each distribution that is not the same; torch, numpy and python first."""
    of_there, of_here = (dict(line.split("==", 1) for line in lines if "==" in line) for lines in (there, here))
    names = sorted(of_there.keys() | of_here.keys(), key=lambda name: (name not in ("torch", "numpy", "python"), name))
    return [
        f"{name} {of_there.get(name, 'none')}, here {of_here.get(name, 'none')}"
        for name in names
        if of_there.get(name) != of_here.get(name)
    ]


def _name(found: Distribution) -> str | None:
    """None for a folder that an uninstallation left without its metadata."""
    try:
        return found.name
    except FileNotFoundError:  # of importlib_metadata, which replaces the standard library's part once it is imported
        return None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
