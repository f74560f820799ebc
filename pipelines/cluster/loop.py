"""What each training worker does: go on from the newest checkpoint to the run's length, the same on all workers."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist

from diffusion.training.health import diagnose
from diffusion.training.points import BoundPoint
from pipelines.cluster.assemble import fix_kernels, make_objective, make_record, make_trainer, make_validation
from pipelines.cluster.events import Advanced, Event, Measured, Started
from pipelines.cluster.job import Job, Place
from pipelines.cluster.not_finite import NotFinite, explain
from pipelines.cluster.record import Platform, Record
from pipelines.errors import TrainingError
from pipelines.runs.checkpoint import newest_checkpoint, prune, save_checkpoint

Tell = Callable[[Event], None]
"""Passes on what happens, without waiting. Worker 0's is heard."""


class Loop:
    """One worker's part of a training."""

    def __init__(self, job: Job, place: Place, tell: Tell) -> None:
        self._job = job
        self._place = place
        self._tell: Tell = tell if place.rank == 0 else _nobody
        self._train = job.params.train
        fix_kernels(place, strict=self._train.reduction == "strict")
        self._objective = make_objective(job, place)
        self._trainer = make_trainer(job, place, self._objective)
        self._validation = make_validation(job, place)
        self._record = make_record(job, place)
        self._last_good: int | None = None

    def run(self) -> None:
        """Train to the run's length and leave its final checkpoint.

        Raises:
            TrainingError: a loss or gradient is not finite, or the workers see different checkpoints.
            CheckpointError: a checkpoint belongs to another run, or cannot be saved.
        """
        self._resume()
        state = self._trainer.state
        while state.step < self._train.steps:
            self._trainer.step()
            self._after_step(state.step)
        self._save(state.step, final=True)

    def _resume(self) -> None:
        """Take up the newest whole checkpoint within the run's length, if there is one."""
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
        self._check_same_step()
        self._tell_start(tuple(f"{each.name}: {each.reason}" for each in skipped), notes)

    def _tell_start(self, skipped: tuple[str, ...], notes: tuple[str, ...]) -> None:
        state, device = self._trainer.state, self._record.platforms[-1].device
        points = tuple(state.history.points)
        self._tell(Started(state.step, self._place.workers, device, skipped, notes, points))

    def _check_same_step(self) -> None:
        """All workers must go on from the same step; this is also the first time that they meet."""
        steps = _gathered(self._trainer.state.step, self._place)
        if len(set(steps)) > 1:
            raise TrainingError(
                f"the workers see different checkpoints of the run, after steps {steps} (by rank): storage.uri in "
                f"infra/cluster.yaml must be a place that all of them see, and {self._job.run} is not"
            )

    def _after_step(self, step: int) -> None:
        """What is due after `step` updates. Only here the host waits for the device."""
        train = self._train
        if step % train.log_every == 0:
            self._check_finite()
            for point in self._trainer.close_points(train.log_every, train.log_every * train.batch_size):
                self._tell(Measured(point))
        if step % train.val_every == 0 and (bound := self._bound(step)):
            self._trainer.state.history.bounds.append(bound)
            self._tell(Measured(bound))
        if step % self._job.every_steps == 0 and step < train.steps:
            self._save(step, final=False)
        self._tell(Advanced(step))

    def _bound(self, step: int) -> BoundPoint | None:
        """The validation bound of the average weights."""
        self._check_finite()
        if self._validation is None:
            return None
        state = self._trainer.state
        return self._validation(state.net, state.ema.tensors, step, self._place.rank)

    def _save(self, step: int, *, final: bool) -> None:
        """Commit the state; every worker has the same, worker 0 writes it."""
        self._check_finite()
        bound = self._final_bound(step) if final else None
        self._last_good = step
        if self._place.rank == 0:
            groups = self._trainer.state.groups()
            content = self._record.to_state(step, self._train.batch_size, bound)
            save_checkpoint(self._job.run, step, groups, content, final=final)
            prune(self._job.run, self._job.keep)

    def _final_bound(self, step: int) -> BoundPoint | None:
        """The bound at the end. It is no part of the history unless it was due: a longer run must not show it."""
        bounds = self._trainer.state.history.bounds
        return bounds[-1] if bounds and bounds[-1].step == step else self._bound(step)

    def _check_finite(self) -> None:
        if (bad := self._trainer.health.first_bad_step()) is not None:
            suspects = diagnose(self._trainer.state.net, self._objective, bad)
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
