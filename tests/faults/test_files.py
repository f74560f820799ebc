"""Files of a killed run that are damaged afterwards: training goes on from the checkpoint before, and says so.

The run is killed once with everything below it; each damage is done to a copy of its folder, and the loop of a worker
goes on from there in this process, alone: the number of workers changes nothing.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from diffusion.models.digest import content_digest
from pipelines.cluster.events import Event, Started
from pipelines.cluster.job import Job, Place
from pipelines.cluster.loop import Loop
from pipelines.configuration import read_yaml
from pipelines.params import Params
from pipelines.runs.checkpoint import newest_checkpoint
from pipelines.runs.local import LocalStore
from tests.end_to_end.project import Project
from tests.faults.conftest import Table
from tests.faults.harness import EVERY, FaultLab, copy_of

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(900)]

FILES = (
    "weights.safetensors",
    "ema.safetensors",
    "optimizer.safetensors",
    "history.safetensors",
    "health.safetensors",
    "times.safetensors",
    "state.json",
    "manifest.json",
)


@dataclass(frozen=True)
class Wounded:
    """A run that was killed."""

    project: Project
    run: Path
    newest: int
    """Step of its newest checkpoint."""

    def job(self, run: Path) -> Job:
        """To go on from a copy of it."""
        params = Params.model_validate(read_yaml(self.project.folder / "params.yaml"))
        return Job(params, self.project.folder / "results" / "prepare", LocalStore(run), self.run.name, EVERY, keep=2)


@pytest.fixture(scope="module")
def wounded(base: Project, tmp_path_factory: pytest.TempPathFactory) -> Wounded:
    lab: FaultLab = copy_of(base, tmp_path_factory.mktemp("wounded") / "project")
    attempt = lab.disturb(lambda attempt: os.killpg(attempt.process.pid, signal.SIGKILL), at=200)
    assert attempt.process.returncode == -signal.SIGKILL
    checkpoint, _ = newest_checkpoint(LocalStore(lab.run))
    assert checkpoint is not None
    return Wounded(lab.project, lab.run, checkpoint.step)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def in_every(damage: Callable[[Path], object]) -> Callable[[Path], None]:
    """The same damage to a file of every checkpoint."""

    def do(newest: Path) -> None:
        for folder in newest.parent.glob("step-*"):
            damage(folder / "weights.safetensors")

    return do


def of_the_future(newest: Path) -> None:
    """As after the clock was set back by a day: the older checkpoint looks as if it were saved later."""
    for number, folder in enumerate(sorted(newest.parent.glob("step-*"), reverse=True)):
        for file in folder.iterdir():
            os.utime(file, (time.time() + 86400, time.time() + 86400 + number))


def leftovers(newest: Path) -> None:
    """Of two killed saves: one whole but for its name, one begun."""
    shutil.copytree(newest, newest.with_name(".step-00000220.0a1b2c3d.tmp"))
    newest.with_name(".step-00000240-final.0a1b2c3d.tmp").mkdir()


DAMAGES: dict[str, tuple[Callable[[Path], object], int | None]] = {
    **{f"{file} truncated": (lambda newest, file=file: truncate(newest / file), 1) for file in FILES},
    **{f"a bit flipped in {file}": (lambda newest, file=file: flip(newest / file), 1) for file in FILES},
    **{f"{file} missing": (lambda newest, file=file: (newest / file).unlink(), 1) for file in FILES},
    "a bit flipped in both checkpoints": (in_every(flip), None),
    "the newest checkpoint under another step's name": (
        lambda newest: newest.rename(newest.with_name("step-00000239")),
        1,
    ),
    "clock set back by a day between two saves": (of_the_future, 0),
    "leftovers of two killed saves": (leftovers, 0),
}
"""What is done to the newest checkpoint's folder, and how many checkpoints are skipped; None: all of them."""


@pytest.mark.parametrize("damage", DAMAGES)
def test_training_goes_on_from_a_whole_checkpoint(wounded: Wounded, table: Table, tmp_path: Path, damage: str) -> None:
    do, skips = DAMAGES[damage]
    start = 0 if skips is None else wounded.newest - skips * EVERY
    row = table.expect(damage, f"goes on from step {start}" + (", naming what it skipped" if skips != 0 else ""))
    run = tmp_path / "run"
    shutil.copytree(wounded.run, run)
    do(run / f"step-{wounded.newest:08d}")

    torch.set_num_threads(1)
    events: list[Event] = []
    began = time.monotonic()
    Loop(wounded.job(run), Place(0, 1, torch.device("cpu")), events.append).run()
    seconds = time.monotonic() - began

    (started,) = [event for event in events if isinstance(event, Started)]
    assert started.step == start
    assert len(started.skipped) == (2 if skips is None else skips)
    checkpoint, _ = newest_checkpoint(LocalStore(run))
    assert checkpoint is not None
    groups = sorted(Path(name).stem for name in checkpoint.files if name.endswith(".safetensors"))
    tensors = {f"{group}/{name}": t for group in groups for name, t in checkpoint.load(group).items()}
    same = content_digest(tensors) == table.calm.outcome.digest
    row.seen = f"step {started.step}; {'same bits' if same else 'OTHER bits'}"
    row.lost_s = seconds * (wounded.newest - started.step) / (240 - started.step)
    assert same
