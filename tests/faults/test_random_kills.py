"""A hundred kills at random over one run, seeded, some of them while the stage or its workers start; whatever dies, the
same command goes on, to the same bits.

The table at the end has one line; the log of every kill is in the file that FAULTS_LOG names, if it names one.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.project import Project
from tests.faults.harness import Attempt, FaultLab, copy_of

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(3 * 3600)]

KILLS = int(os.environ.get("FAULTS_KILLS", "100"))
SEED = 20
STEPS_PER_KILL = 45
VICTIMS = {"RayTrainWorker 0": 6, "RayTrainWorker 1": 6, "TrainController 0": 1, "the stage": 1, "everything": 1}
"""How often each is chosen."""
EARLY = 0.3
"""How often the moment is one of the start of the stage or of new workers, before their first step."""
START_S = 8.0
"""About how long that takes."""


class Chaos:
    """Keeps the stage running, and kills."""

    def __init__(self, lab: FaultLab, seed: int) -> None:
        self.lab = lab
        self.rng = random.Random(seed)
        self.log: list[str] = []
        self.killed: Counter[str] = Counter()
        self.began = time.monotonic()

    def run(self, kills: int) -> None:
        """Start the stage again and again until so many of its processes were killed."""
        while self.killed.total() < kills:
            attempt = self.lab.start(PIPELINES__CHECKPOINT__EVERY_STEPS="10")
            seen = 0
            while self.killed.total() < kills and self._moment_comes(attempt, seen):
                begun = beginnings(attempt)
                self._strike(attempt, "" if begun > seen else ", starting")
                seen = begun
            assert attempt.process.poll() != 0, f"the run ended after {self.killed.total()} kills"
            self.lab.clear(attempt)

    def _moment_comes(self, attempt: Attempt, seen: int) -> bool:
        """Wait for a moment of the start, or for one soon after workers began once more; False if the stage ends."""
        if self.rng.random() < EARLY:
            return self._lives_for(attempt, self.rng.uniform(0.0, START_S))
        while self._lives_for(attempt, 0.02):
            if beginnings(attempt) > seen:
                return self._lives_for(attempt, self.rng.uniform(0.0, 2.0))
        return False

    def _lives_for(self, attempt: Attempt, seconds: float) -> bool:
        """Wait; False if the stage ends meanwhile."""
        try:
            attempt.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def _strike(self, attempt: Attempt, when: str) -> None:
        victim = self.rng.choices(list(VICTIMS), list(VICTIMS.values()))[0]
        try:
            if victim == "the stage":
                attempt.process.kill()
            elif victim == "everything":
                os.killpg(attempt.process.pid, signal.SIGKILL)
            else:
                name, which = victim.split()
                attempt.signal(name, which=int(which))
        except (psutil.Error, IndexError, ProcessLookupError):
            return  # it has just ended by itself
        self.killed[victim] += 1
        at = time.monotonic() - self.began
        self.log.append(
            f"{at:7.1f} s  kill {self.killed.total():3d}: {victim}{when}, step {self.lab.saved_step()} saved"
        )


def beginnings(attempt: Attempt) -> int:
    """How often its workers began."""
    return len(re.findall(r"training from the start|resumed from the checkpoint|go on from step", attempt.text))


@pytest.fixture
def long_run(base: Project, tmp_path: Path) -> tuple[FaultLab, FaultLab]:
    """Two copies of a run that is long enough to be killed so often."""
    labs = tuple(copy_of(base, tmp_path / name) for name in ("calm", "killed"))
    for lab in labs:
        lab.patience_s = 3600.0
        lab.project.set(train__steps=str(KILLS * STEPS_PER_KILL), train__val_every="500", train__log_every="50")
    return labs[0], labs[1]


def test_a_hundred_kills(long_run: tuple[FaultLab, FaultLab]) -> None:
    calm, killed = long_run
    wanted = calm.finish()
    chaos = Chaos(killed, SEED)
    try:
        chaos.run(KILLS)
    finally:
        report(chaos)
    assert killed.finish() == wanted


def report(chaos: Chaos) -> None:
    """Every kill, also of a test that fails."""
    log = "\n".join([*chaos.log, f"{dict(chaos.killed)}, {len(chaos.lab.attempts)} starts of the stage"])
    print(log)
    if file := os.environ.get("FAULTS_LOG"):
        Path(file).write_text(log + "\n")
