"""A real training run, its processes by name, and what it left: for faults to be put in and results to be compared.

The train stage runs as a person or DVC would start it, in a copy of the project with two Ray workers, on the digits, in
strict mode with dropout and flips. A fault is any function of the running `Attempt`. Afterwards the same command runs
again until the run has its length; then weights, average, optimiser, history and the metrics in MLflow must be the same
bits as those of a run that nothing happened to.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from diffusion.models.digest import content_digest
from pipelines.runs.checkpoint import newest_checkpoint
from pipelines.runs.local import LocalStore
from pipelines.runs.store import Store
from tests.end_to_end.project import TINY, Project

STEPS = 240
EVERY = 20
"""Steps between checkpoints."""
MACHINE = ("system/", "steps_per_second")
"""Numbers of a run that no two runs share."""
PARAMS = TINY | {
    "train.steps": str(STEPS),
    "train.val_every": "80",
    "train.log_every": "10",
    "train.horizontal_flip": "true",
    "model.dropout": "0.1",
}
SETTINGS = {
    "PIPELINES__RAY__WORKERS": "2",
    "PIPELINES__CHECKPOINT__EVERY_STEPS": str(EVERY),
    "PIPELINES__RAY__HANG_TIMEOUT_S": "6",
    "PIPELINES__RAY__COLLECTIVE_TIMEOUT_S": "60",
}
TRAIN = ("python", "-m", "pipelines.train")
PATIENCE_S = 240.0


class Attempt:
    """The train stage while it runs."""

    def __init__(self, lab: FaultLab, process: subprocess.Popen[str]) -> None:
        self.lab = lab
        self.process = process
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line)

    @property
    def text(self) -> str:
        """What it printed so far."""
        return "".join(self._lines)

    def wait_for_step(self, step: int) -> None:
        """Until a checkpoint at or beyond a step is committed."""
        self._until(lambda: self.lab.saved_step() >= step, f"a checkpoint of step {step}")

    def wait_for_workers(self) -> None:
        """Until its workers' processes are there; they have not begun then."""
        self._until(lambda: len(self.workers()) == int(self.lab.settings["PIPELINES__RAY__WORKERS"]), "workers")

    def wait_for_text(self, text: str) -> None:
        """Until it has printed something."""
        self._until(lambda: text in self.text, text)

    def _until(self, there: Callable[[], bool], what: str) -> None:
        give_up = time.monotonic() + self.lab.patience_s
        while not there():
            assert self.process.poll() is None, f"it ended with {self.process.returncode} before {what}:\n{self.text}"
            assert time.monotonic() < give_up, f"no {what} in time:\n{self.text}"
            time.sleep(0.01)

    def end(self) -> int:
        """Wait for its end; the exit status."""
        self.process.wait(self.lab.patience_s)
        self._reader.join(10)
        assert self.process.stdout is not None
        if not self._reader.is_alive():
            self.process.stdout.close()
        return self.process.returncode

    def below(self, name: str) -> list[psutil.Process]:
        """Processes below the stage whose name or command has `name` in it, by birth."""
        found = []
        for each in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if name in each.name() or name in " ".join(each.cmdline()[:3]):
                    found.append(each)
            except psutil.Error:
                continue
        return sorted(found, key=lambda each: each.create_time())

    def workers(self) -> list[psutil.Process]:
        """The training workers."""
        return self.below("ray::RayTrainWorker")

    def signal(self, name: str, number: signal.Signals = signal.SIGKILL, which: int = 0) -> str:
        """Send a signal to a process below the stage."""
        victim = self.below(name)[which]
        said = f"{number.name} to {victim.name()} {victim.pid}"
        victim.send_signal(number)
        return said


@dataclass(frozen=True)
class Outcome:
    """What a run left."""

    digest: str
    """Over weights, average, optimiser, times and history of the final checkpoint."""
    model: str
    """Content digest of the model file."""
    metrics: tuple[tuple[str, int, float], ...]
    """Name, step and value of all in MLflow, sorted; one that is there twice is there twice."""
    skipped: tuple[str, ...]


@dataclass
class FaultLab:
    """A project of its own, in which a run is disturbed."""

    project: Project
    seconds: float = 0.0
    """Of all attempts so far."""
    patience_s: float = PATIENCE_S
    """How long an attempt may take to its end."""
    settings: Mapping[str, str] = field(default_factory=lambda: dict(SETTINGS))
    """The environment of each attempt, but for what it is given itself."""
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def run(self) -> Path:
        """The run's folder; there is one."""
        (folder,) = (path for path in (self.project.folder / ".state" / "runs").iterdir() if path.is_dir())
        return folder

    def store(self) -> Store:
        """Where the run's checkpoints are."""
        return LocalStore(self.run)

    def saved_step(self) -> int:
        """Of the newest folder that looks like a checkpoint; -1 if there is none."""
        names = (path.name for path in (self.project.folder / ".state" / "runs").glob("*/step-*"))
        return max((int(name.split("-")[1]) for name in names), default=-1)

    def start(self, *command: str, **environment: str) -> Attempt:
        """Start the stage, or another command."""
        process = self.project.start(*(command or TRAIN), **{**self.settings, **environment})
        self.attempts.append(Attempt(self, process))
        return self.attempts[-1]

    def disturb(
        self, fault: Callable[[Attempt], Any], at: int | None = 40, *, clear: bool = True, **environment: str
    ) -> Attempt:
        """Run the stage, put a fault in after a checkpoint, and wait for the end of this attempt.

        Args:
            fault: what is done.
            at: the checkpoint's step; None: the fault waits itself.
            clear: whether to end what outlived the stage; else its orphans meet the next attempt.
            environment: settings of this attempt.
        """
        began = time.monotonic()
        attempt = self.start(**environment)
        try:
            if at is not None:
                attempt.wait_for_step(at)
            fault(attempt)
            attempt.process.wait(self.patience_s)
        finally:
            if clear:
                self.clear(attempt)
        self.seconds += time.monotonic() - began
        return attempt

    def finish(self, **environment: str) -> Outcome:
        """The same command again, undisturbed, to the end."""
        began = time.monotonic()
        self._to_the_end(**environment)
        self.seconds += time.monotonic() - began
        return self.outcome()

    def _to_the_end(self, **environment: str) -> Attempt:
        attempt = self.start(**environment)
        try:
            assert attempt.end() == 0, attempt.text
        finally:
            self.clear(attempt)
        return attempt

    def outcome(self) -> Outcome:
        """What is there now; the run must have its length. What MLflow was too slow for is sent first."""
        for _ in range(3):
            if "not yet in MLflow" not in self.attempts[-1].text:
                break
            assert "nothing to train" in self._to_the_end().text
        checkpoint, skipped = newest_checkpoint(self.store())
        assert checkpoint is not None
        assert checkpoint.final
        groups = sorted(Path(name).stem for name in checkpoint.files if name.endswith(".safetensors"))
        tensors = {f"{group}/{name}": t for group in groups for name, t in checkpoint.load(group).items()}
        model = self.project.json("results/train/model.json")
        return Outcome(
            content_digest(tensors),
            model["digests"]["ema"] + model["digests"]["raw"],
            self._metrics(),
            tuple(f"{each.name}: {each.reason}" for each in skipped),
        )

    def _metrics(self) -> tuple[tuple[str, int, float], ...]:
        """All numbers in MLflow, but for those that say how busy and how fast the machine was."""
        return tuple(sorted(row for row in self.tracked() if not row[0].startswith(MACHINE)))

    def tracked(self) -> list[tuple[str, int, float]]:
        """Name, step and value of all numbers in MLflow."""
        database = self.project.folder / ".state" / "mlflow" / "mlflow.db"
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            rows = connection.execute("select key, step, value from metrics").fetchall()
        connection.close()
        return [(key, int(step), float(value)) for key, step, value in rows]

    def clear(self, attempt: Attempt) -> None:
        """End what is left of an attempt whose driver was killed: its own processes only, known by its session."""
        for each in psutil.process_iter(["pid"]):
            try:
                if os.getsid(each.pid) == attempt.process.pid:
                    each.kill()
            except (psutil.Error, ProcessLookupError, PermissionError):
                continue
        attempt.end()


def template(folder: Path) -> Project:
    """A clone with the parameters of the run and prepared images, to be copied for each fault."""
    project = Project.clone(folder)
    project.set(**PARAMS)
    project.commit("the run to be disturbed")
    project.run("dvc", "repro", "-q", "prepare")
    return project


def copy_of(project: Project, folder: Path) -> FaultLab:
    """A project of its own with the same images and parameters."""
    shutil.copytree(project.folder, folder, symlinks=True)
    copy = Project(folder)
    copy.python("-m", "pipelines.tracking.moved")
    return FaultLab(copy)
