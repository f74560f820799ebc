"""A network for each module, or none: what is missing is the reason for skipping."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.cluster.network import Network

PROGRAMS = ("ip", "tc", "unshare", "nsenter")


@pytest.fixture(scope="session")
def root_and_programs() -> None:
    """Skips where hosts cannot be made."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"not on PATH: {', '.join(missing)} (Debian: iproute2, util-linux)")


@pytest.fixture(scope="module")
def network(root_and_programs: None) -> Iterator[Network]:
    """A network of its own for each module."""
    with Network() as network:
        yield network
