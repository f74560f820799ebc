"""Steps whose images are worth a look: their ids, times and losses, in a file of the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isfinite, nan
from statistics import median
from typing import Literal

from diffusion.training.echo import Heard
from diffusion.training.health import Suspect
from diffusion.training.points import LossPoint
from pipelines.cluster.events import Unusual
from pipelines.cluster.job import Job
from pipelines.errors import CheckpointError

FOLDER = "unusual"
LAST_POINTS = 20
"""Points of the loss curve whose median is the usual loss."""
SPIKE = 3.0
"""A loss so many times as large as the usual one is a spike."""


def usual_loss(losses: Sequence[LossPoint]) -> float:
    """The median of the last points; NaN where there are too few to say what is usual.

    It depends on the run's curve alone, which is part of its state: a resumed run finds the same spikes.
    """
    last = [point.loss for point in losses[-LAST_POINTS:]]
    return median(last) if len(last) == LAST_POINTS else nan


def is_spike(heard: Heard, usual: float) -> bool:
    """Whether the loss of a step is far above the usual one."""
    return not heard.bad and isfinite(usual) and heard.loss > SPIKE * usual


def file_of(step: int) -> str:
    """Where in the run's place the images of update number `step` (from 1) are listed."""
    return f"{FOLDER}/step-{step:08d}.json"


def write_unusual(job: Job, heard: Heard, usual: float, ids: Sequence[str], suspects: Sequence[Suspect]) -> Unusual:
    """List the images of a step, the worst first, in the run's folder. The same step writes the same file again.

    A list that cannot be written is no reason to stop, and must not hide the reason for which it was made.

    Raises:
        RunLocked: this process held the run and has lost it.
    """
    kind: Literal["not finite", "spike"] = "not finite" if heard.bad else "spike"
    content = {
        "step": heard.step + 1,
        "kind": kind,
        "loss": _number(heard.loss),
        "usual_loss": _number(usual),
        "images": [
            {"id": ids[each.index], "index": each.index, "t": each.t, "loss": _number(each.loss)} for each in suspects
        ],
    }
    file = file_of(heard.step + 1)
    try:
        job.run.note(file, (json.dumps(content, indent=1) + "\n").encode())
        where = job.run.place(file)
    except CheckpointError as error:
        where = f"not written: {error}"
    return Unusual(heard.step + 1, kind, heard.loss, usual, where)


def _number(value: float) -> float | str:
    """JSON has no other way to write what is not finite."""
    return value if isfinite(value) else str(value)
