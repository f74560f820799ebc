"""Where things are. Two roots, because DVC may run a stage in a copy of the project.

`workspace()` is the folder this code was loaded from: params.yaml, results/ and the raw data's relative paths are
looked up there. `dvc exp run --temp` makes a copy of it, runs the stages in the copy and deletes it.

`home()` is the project that the copy was made from. What must outlive a copy (checkpoints, the embedded MLflow,
caches) is in `state()` below it. DVC names that project in DVC_ROOT in every stage it runs.
"""

import os
from pathlib import Path


def workspace() -> Path:
    """The folder that holds `pipelines/`, params.yaml and results/ of the code that is running."""
    return Path(__file__).resolve().parents[1]


def home() -> Path:
    """The main project's folder: DVC_ROOT inside a DVC stage, else the workspace."""
    root = os.environ.get("DVC_ROOT")
    return Path(root).resolve() if root else workspace()


def state() -> Path:
    """`.state/` of the main project: run folders, embedded MLflow, caches. Made when first asked for."""
    folder = home() / ".state"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def results(stage: str) -> Path:
    """The folder in which `stage` leaves its outputs."""
    return workspace() / "results" / stage
