"""A registration that DVC leaves out, because it was made before: perhaps in another registry, which DVC does not see.

Which registry it is the one who asks says by his environment; DVC looks into infra/cluster.yaml. To register again what
is registered changes nothing (`pipelines/register.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.configuration import read_yaml

_STAGE = "register"
_LEFT_OUT = (f"Stage '{_STAGE}' didn't change, skipping", f"Stage '{_STAGE}' is cached - skipping run")
"""What `dvc repro` says then."""


def commands_to_register(lock: Path, lines: Sequence[str]) -> list[list[str]]:
    """What is run for it after `dvc repro` has said these lines; nothing where it has registered itself.

    What is registered is perhaps not here: DVC brings it for a stage that it runs, but for none that it is forced to.
    """
    if not any(line.startswith(_LEFT_OUT) for line in lines):
        return []
    read = [dep["path"] for dep in read_yaml(lock)["stages"][_STAGE]["deps"]]
    made = [path for path in read if path.startswith("results/")]
    return [["dvc", "pull", *made], ["dvc", "repro", "--force", "--single-item", _STAGE]]
