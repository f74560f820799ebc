"""What each training worker does: go on from the newest checkpoint to the run's length, the same on all workers."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from hashlib import blake2b
from math import nan
from typing import Any

import torch
import torch.distributed as dist

from diffusion.training.echo import Heard
from diffusion.training.health import Suspect, diagnose
from diffusion.training.points import BoundPoint
from pipelines.cluster.assemble import fix_kernels, make_objective, make_record, make_trainer, make_validation
from pipelines.cluster.events import Advanced, Event, Measured, Saved, Started, Stopped, Tell
from pipelines.cluster.job import Job, Place
from pipelines.cluster.not_finite import NotFinite, explain
from pipelines.cluster.pulse import Pulse
from pipelines.cluster.record import Platform, Record, platform_of
from pipelines.cluster.saving import Saver
from pipelines.cluster.unusual import is_spike, usual_loss, write_unusual
from pipelines.data.dataset import open_split
from pipelines.errors import TrainingError
from pipelines.runs.checkpoint import newest_checkpoint


class Ending(Enum):
    """Why a loop ended."""

    FINISHED = "the run has its length"
    STOPPED = "the driver asked for it"
    PREEMPTED = "a worker's machine is about to be taken away"


class Loop:
    """One worker's part of a training."""

    def __init__(
        self,
        job: Job,
        place: Place,
        tell: Tell,
        pulse: Pulse | None = None,
        preempted: Callable[[], bool] | None = None,
    ) -> None:
        """Args:
        job: what to train.
        place: where this worker stands.
        tell: passes on what happens; worker 0's is heard.
        pulse: told of each step, and says whether to stop.
        preempted: whether some worker's machine is about to be taken away; all workers ask together.
        """
        self._job = job
        self._place = place
        self._tell: Tell = tell if place.rank == 0 else _nobody
        self._pulse = pulse or Pulse()
        self._preempted = preempted
        self._train = job.params.train
        fix_kernels(place, strict=self._train.reduction == "strict")
        self._objective = make_objective(job, place)
        self._trainer = make_trainer(job, place, self._objective)
        self._validation = make_validation(job, place)
        self._record = make_record(job, place)
        self._saver = Saver(job, self._note_saved) if place.rank == 0 else None
        self._last_good: int | None = None

    def run(self) -> Ending:
        """Train to the run's length and leave its final checkpoint; or to where all stop, and leave a checkpoint there.

        Raises:
            TrainingError: a loss or gradient is not finite, or the workers see different checkpoints.
            CheckpointError: a checkpoint belongs to another run, or cannot be saved.
        """
        try:
            self._resume()
            return self._train_on()
        finally:
            self._objective.minibatches.close()
            if self._saver:
                self._saver.close()

    def _train_on(self) -> Ending:
        state = self._trainer.state
        while state.step < self._train.steps:
            heard = self._trainer.step(stop=self._pulse.stop is not None)
            self._pulse.step = state.step
            self._after_step(state.step, heard)
            if ending := self._asked_to_stop(state.step, heard):
                self._save_and_wait(state.step, final=False)
                self._tell(Stopped(state.step, preempted=ending is Ending.PREEMPTED))
                return ending
        self._save_and_wait(state.step, final=True)
        return Ending.FINISHED

    def _resume(self) -> None:
        """Take up the newest whole checkpoint within the run's length, if there is one.

        Worker 0 is here once it alone may write the run. Only then all look, or one of them might miss what a worker
        of a driver before has saved last.
        """
        _gathered(0, self._place)
        checkpoint, skipped = newest_checkpoint(self._job.run, at_most=self._train.steps)
        notes: tuple[str, ...] = ()
        if checkpoint is not None:
            kept = Record.from_state(checkpoint.state)
            self._record.check_same_run(kept)
            state = self._trainer.state
            state.load({group: checkpoint.load(group) for group in state.groups()}, checkpoint.step)
            platform = self._record.platforms[0]
            self._record = kept.resumed(checkpoint.step, platform)
            self._last_good = checkpoint.step
            notes = _other_platform(kept, platform)
        self._pulse.step = self._trainer.state.step
        notes += self._meet()
        self._tell_start(tuple(f"{each.name}: {each.reason}" for each in skipped), notes)

    def _tell_start(self, skipped: tuple[str, ...], notes: tuple[str, ...]) -> None:
        state, device = self._trainer.state, self._record.platforms[-1].device
        points = tuple(state.history.points)
        self._tell(Started(state.step, self._place.workers, device, skipped, notes, points))

    def _meet(self) -> tuple[str, ...]:
        """All workers must go on from the same step; a note where they are not of one kind."""
        steps = _gathered(self._trainer.state.step, self._place)
        if len(set(steps)) > 1:
            raise TrainingError(
                f"the workers see different checkpoints of the run, after steps {steps} (by rank): storage.uri in "
                f"infra/cluster.yaml must be a place that all of them see, and {self._job.run} is not"
            )
        kind = platform_of(self._place.device).kind
        kinds = _gathered(int.from_bytes(blake2b(repr(kind).encode(), digest_size=7).digest()), self._place)
        if len(set(kinds)) == 1:
            return ()
        return (
            f"the workers are of {len(set(kinds))} kinds (torch, numpy, device): the bits of this run depend on which "
            "of them computes what, and no other run will have the same",
        )

    def _asked_to_stop(self, step: int, heard: Heard | None) -> Ending | None:
        """Why to stop after `step` updates, the same on all workers. At the run's length there is nothing to stop."""
        if step == self._train.steps:
            return None
        if heard and heard.stop:
            return Ending.STOPPED
        if self._preempted and step % self._train.log_every == 0 and self._preempted():
            return Ending.PREEMPTED
        return None

    def _after_step(self, step: int, heard: Heard | None) -> None:
        """What is due after `step` updates. Only here the host waits for the device."""
        train = self._train
        if heard:
            self._look_at(heard)
        if step % train.log_every == 0:
            self._check_finite()
            for point in self._trainer.close_points(train.batch_size) or ():
                self._tell(Measured(point))
        if step % train.val_every == 0 and (bound := self._bound(step)):
            self._trainer.state.history.bounds.append(bound)
            self._tell(Measured(bound))
        if self._saver:
            self._saver.look()
        if step % self._job.every_steps == 0 and step < train.steps:
            self._save(step)
        self._tell(Advanced(step))

    def _look_at(self, heard: Heard) -> None:
        """Stop at a failure; list the images of a step that was left out, or whose loss jumped."""
        if heard.bad:
            self._check_finite()
        if self._place.rank == 0:
            usual = usual_loss(self._trainer.state.history.losses)
            if heard.bad or is_spike(heard, usual):
                self._write_unusual(heard, usual, self._suspects(heard.step))

    def _suspects(self, step: int) -> list[Suspect]:
        return diagnose(self._trainer.state.net, self._objective, step)

    def _write_unusual(self, heard: Heard, usual: float, suspects: list[Suspect]) -> None:
        ids = open_split(self._job.prepared, "train").ids
        self._tell(write_unusual(self._job, heard, usual, ids, suspects))

    def _bound(self, step: int) -> BoundPoint | None:
        """The validation bound of the average weights."""
        self._check_finite()
        if self._validation is None:
            return None
        state = self._trainer.state
        return self._validation(state.net, state.ema.tensors, step, self._place.rank)

    def _save(self, step: int) -> None:
        """Begin to commit the state; every worker has the same, worker 0 writes it."""
        self._check_finite()
        if self._saver:
            self._saver.start(step, self._trainer.state.groups(), self._content(step, None))

    def _save_and_wait(self, step: int, *, final: bool) -> None:
        """Commit the state, with the bound at the end where it is the run's."""
        self._check_finite()
        bound = self._final_bound(step) if final else None
        if self._saver:
            self._saver.now(step, self._trainer.state.groups(), self._content(step, bound), final=final)

    def _content(self, step: int, bound: BoundPoint | None) -> dict[str, Any]:
        return self._record.to_state(step, self._train.batch_size, bound)

    def _note_saved(self, event: Event) -> None:
        if isinstance(event, Saved):
            self._last_good = event.step
        self._tell(event)

    def _final_bound(self, step: int) -> BoundPoint | None:
        """The bound at the end. It is no part of the history unless it was due: a longer run must not show it."""
        bounds = self._trainer.state.history.bounds
        return bounds[-1] if bounds and bounds[-1].step == step else self._bound(step)

    def _check_finite(self) -> None:
        """Raises NotFinite where training has failed; on all workers at the same step."""
        if (bad := self._trainer.state.health.failed_at()) is None:
            return
        suspects = self._suspects(bad)
        if self._saver:
            self._saver.wait()
            self._write_unusual(Heard(bad, nan, bad=True, stop=False), nan, suspects)
        raise NotFinite(explain(self._job, bad + 1, suspects, self._last_good))


def _gathered(number: int, place: Place) -> list[int]:
    """The numbers of all workers, by rank."""
    if place.workers == 1:
        return [number]
    mine = torch.tensor(number, device=place.device)
    everyones = [torch.zeros_like(mine) for _ in range(place.workers)]
    dist.all_gather(everyones, mine)
    return [int(each) for each in everyones]


def _other_platform(kept: Record, platform: Platform) -> tuple[str, ...]:
    """A note if the run goes on on another kind of machine than before."""
    before = kept.platforms[-1]
    if before.kind == platform.kind:
        return ()
    return (
        f"the run was made with {before} and goes on with {platform}: its bits are no longer those of an "
        "uninterrupted run, and the model's card lists both",
    )


def _nobody(event: Event) -> None:
    """What the other workers tell."""
