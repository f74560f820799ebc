"""What of a job's .state goes back to the one who asked for it."""

from __future__ import annotations

import shutil
from pathlib import Path

_KEPT = ("spool", "took")
"""What is not in MLflow yet, and what the work cost."""


def kept_of(project: Path) -> Path | None:
    """A folder with it; None if there is nothing."""
    kept = project.with_name("kept")
    for name in _KEPT:
        if (project / ".state" / name).is_dir():
            shutil.copytree(project / ".state" / name, kept / name)
    return kept if kept.is_dir() else None
