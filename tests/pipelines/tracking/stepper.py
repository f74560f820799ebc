"""A stage that does nothing but step and track, in a process of its own that a test may kill."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pipelines.params import load_params
from pipelines.settings import Settings, TrackingSettings
from pipelines.tracking import sender
from pipelines.tracking.run import stage_run

CHECKPOINT_EVERY, FILE_EVERY = 50, 400


def settings_for(uri: str, timeout_s: float = 1, retries: int = 0) -> Settings:
    return Settings(tracking=TrackingSettings(uri=uri, timeout_s=timeout_s, retries=retries))


def loss(step: int) -> float:
    return 1 / (step + 1)


def step_through(project: str, uri: str, steps: int, step_s: float = 0.002) -> None:
    """Steps from the last checkpoint on; what was told since is told again."""
    os.environ["DVC_ROOT"] = project
    folder = Path(project)
    sender._EVERY_S = 0.1
    params = load_params(folder / "params.yaml")
    reached = folder / "reached"
    first = int(reached.read_text()) if reached.exists() else 0
    with stage_run("train", params, settings_for(uri), key="stepping") as tracker:
        for step in range(first, steps):
            time.sleep(step_s)
            tracker.metrics(step, {"loss": loss(step), "gradient_norm": 2 * loss(step)})
            if (step + 1) % FILE_EVERY == 0:
                note = folder / f"note-{step}.txt"
                note.write_text(str(step))
                tracker.artifact(note)
            if (step + 1) % CHECKPOINT_EVERY == 0:
                tracker.tags({"reached": str(step + 1)})
                fresh = reached.with_suffix(".new")
                fresh.write_text(str(step + 1))
                fresh.replace(reached)
    (folder / "ended").touch()
