"""Disks that are full or refuse: the checkpoints before stay whole, and training stops or goes on as configured.

The runs' folder, or all of .state with the spool and MLflow's database, is a small file system of its own, which needs
root.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
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
def disk(lab: FaultLab, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Mounted at a folder of .state, which keeps its content, with room for some checkpoints."""
    folder = lab.project.folder / ".state" / request.param
    folder.mkdir(parents=True, exist_ok=True)
    content = shutil.copytree(folder, tmp_path / "content")
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m,nr_inodes=2000", "tmpfs", folder], capture_output=True, text=True
    )
    if mount.returncode:
        pytest.skip(f"no file system can be mounted here: {mount.stderr.strip()}")
    shutil.copytree(content, folder, dirs_exist_ok=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path) -> None:
    """Until not a byte fits."""
    with (disk / "ballast").open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
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


def keep(refusing: Callable[[Path], None], disk: Path, until: Callable[[], bool]) -> None:
    """Use up also what others give back meanwhile: MLflow's database its journal."""
    while not until():
        refusing(disk)
        time.sleep(0.02)


def spooled_step(lab: FaultLab) -> int:
    """The last of which a number is spooled."""
    (spool,) = (lab.project.folder / ".state" / "spool").glob("train-*.jsonl")
    return max(int(step) for step in re.findall(r'"step": (\d+)', spool.read_text()))


RUNS, ALL = "runs", "."
REFUSALS = {
    "the disk of the runs is full": (RUNS, fill),
    "the disk of the runs is out of inodes": (RUNS, use_up_inodes),
    "the disk of all of .state is full": (ALL, fill),
}


@pytest.mark.parametrize(
    ("disk", "refusal"), [(where, name) for name, (where, _) in REFUSALS.items()], indirect=["disk"]
)
def test_a_disk_that_refuses_stops_training(lab: FaultLab, table: Table, disk: Path, refusal: str) -> None:
    row = table.expect(refusal, "the stage stops and says so; earlier checkpoints are whole")
    _, refusing = REFUSALS[refusal]
    attempt = lab.disturb(lambda a: keep(refusing, disk, lambda: a.process.poll() is not None))
    assert attempt.process.returncode == 1, attempt.text
    assert "Earlier checkpoints are as they were" in attempt.text
    assert "Traceback" not in attempt.text, attempt.text
    checkpoint, skipped = newest_checkpoint(LocalStore(lab.run))
    assert checkpoint is not None
    assert (checkpoint.step >= 40, skipped) == (True, [])
    for file in disk.glob("ballast*"):
        file.unlink()
    table.same_bits(row, lab, lab.finish(), f"stopped after step {checkpoint.step} was saved")


@pytest.mark.parametrize("disk", [RUNS, ALL], indirect=True)
def test_a_full_disk_is_passed_over_where_so_configured(lab: FaultLab, table: Table, disk: Path) -> None:
    whole = disk.name == ".state"
    name = "the disk of all of .state" if whole else "the disk of the runs"
    row = table.expect(f"{name} is full for a while, checkpoint.on_error: continue", "training goes on, saying so")

    def fault(attempt: Attempt) -> None:
        unsaved: list[str] = []

        def passed_over() -> bool:
            unsaved[:] = re.findall(r"no checkpoint of step (\d+), training goes on", attempt.text)
            assert attempt.process.poll() is None, attempt.text
            return len(unsaved) == 3

        keep(fill, disk, passed_over)
        if whole:  # the rest of a page may have taken a few numbers more
            assert spooled_step(lab) < int(unsaved[-1])
        (disk / "ballast").unlink()

    attempt = lab.disturb(fault, PIPELINES__CHECKPOINT__ON_ERROR="continue")
    assert attempt.process.returncode == 0, attempt.text
    assert "not kept for MLflow" not in attempt.text
    table.same_bits(row, lab, lab.outcome(), "went on by itself")
