"""Disks that are full or refuse: the checkpoints before stay whole, and training stops or goes on as configured.

The runs' folder is a small file system of its own, which needs root.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.runs.checkpoint import newest_checkpoint
from pipelines.runs.local import LocalStore
from tests.faults.conftest import Table
from tests.faults.harness import Attempt, FaultLab

pytestmark = [
    pytest.mark.slow,
    pytest.mark.faults,
    pytest.mark.root,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root"),
]


@pytest.fixture
def disk(lab: FaultLab) -> Iterator[Path]:
    """Mounted where the run folders go, with room for some checkpoints."""
    folder = lab.project.folder / ".state" / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m,nr_inodes=2000", "tmpfs", folder], capture_output=True, text=True
    )
    if mount.returncode:
        pytest.skip(f"no file system can be mounted here: {mount.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path) -> None:
    """Until not a byte fits."""
    with (disk / "ballast").open("wb") as file:
        try:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        except OSError:
            return


def use_up_inodes(disk: Path) -> None:
    """Until no file can be made, though there is room for its content."""
    number = 0
    try:
        while True:
            (disk / f"ballast-{number}").touch()
            number += 1
    except OSError:
        return


@pytest.mark.parametrize("kind", ["full", "out of inodes"])
def test_a_disk_that_refuses_stops_training(lab: FaultLab, table: Table, disk: Path, kind: str) -> None:
    row = table.expect(f"the disk is {kind}", "the stage stops and says so; earlier checkpoints are whole")

    def fault(attempt: Attempt) -> None:
        fill(disk) if kind == "full" else use_up_inodes(disk)

    attempt = lab.disturb(fault)
    assert attempt.process.returncode == 1, attempt.text
    assert "Earlier checkpoints are as they were" in attempt.text
    checkpoint, skipped = newest_checkpoint(LocalStore(lab.run))
    assert checkpoint is not None
    assert (checkpoint.step >= 40, skipped) == (True, [])
    for file in disk.glob("ballast*"):
        file.unlink()
    table.same_bits(row, lab, lab.finish(), f"stopped after step {checkpoint.step} was saved")


def test_a_full_disk_is_passed_over_where_so_configured(lab: FaultLab, table: Table, disk: Path) -> None:
    row = table.expect("the disk is full for a while, checkpoint.on_error: continue", "training goes on, saying so")

    def fault(attempt: Attempt) -> None:
        fill(disk)
        attempt.wait_for_text("training goes on (checkpoint.on_error)")
        (disk / "ballast").unlink()

    attempt = lab.disturb(fault, PIPELINES__CHECKPOINT__ON_ERROR="continue")
    assert attempt.process.returncode == 0, attempt.text
    table.same_bits(row, lab, lab.outcome(), "went on by itself")
