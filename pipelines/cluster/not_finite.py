"""A loss or gradient that is not finite, told so that a person can act on it."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from diffusion.training.health import Suspect
from pipelines.cluster.job import Job
from pipelines.cluster.unusual import file_of
from pipelines.errors import TrainingError

_LISTED = 8
"""Images in the message."""


class NotFinite(TrainingError):
    """Training stopped at a step that was not finite. All workers raise it at the same step."""


def explain(job: Job, step: int, suspects: Sequence[Suspect], last_good: int | None) -> str:
    """The message for update number `step` (from 1); `suspects` are its images, the worst first."""
    train = job.params.train
    good = "there is no good checkpoint yet" if last_good is None else f"the last good checkpoint is step {last_good}"
    row = train.stop_after_bad_steps
    which = f"step {step}" if row == 1 else f"step {step} and the {row - 1} after it"
    return (
        f"the loss or its gradient at {which} is not finite. No update was made; {good}, "
        f"in {job.run}. {_images(suspects)} (all of them: {job.run.place(file_of(step))}). "
        f"Lower train.learning_rate (it is {train.learning_rate:g}), raise "
        f"train.warmup_steps ({train.warmup_steps}) or lower train.clip_norm ({train.clip_norm}): each begins a new run"
    )


def _images(suspects: Sequence[Suspect]) -> str:
    bad = [suspect for suspect in suspects if not isfinite(suspect.loss)]
    if bad:
        listed = ", ".join(f"{s.index} at t = {s.t}" for s in bad[:_LISTED])
        more = f" and {len(bad) - _LISTED} more" if len(bad) > _LISTED else ""
        return f"Not finite is the loss of {len(bad)} of {len(suspects)} training images: {listed}{more}"
    listed = ", ".join(f"{s.index} at t = {s.t} ({s.loss:.3g})" for s in suspects[:_LISTED])
    return f"All losses are finite, so the gradient is not; the largest are those of training images {listed}"
