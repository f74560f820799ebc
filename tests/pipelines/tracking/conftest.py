"""A spool for each test."""

from collections.abc import Iterator

import pytest

from pipelines.tracking.run import identity as run_identity
from pipelines.tracking.spool import Spool


@pytest.fixture
def spool(workplace) -> Iterator[Spool]:
    spool = Spool.open(run_identity("train", workplace.params, "k"))
    yield spool
    spool.close()
