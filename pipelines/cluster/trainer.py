"""Ray Train around the loop. Ray supplies workers and placement; checkpoints and what is tried again are ours."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType

from pipelines.cluster.attempt import Failed, Workers, attempt, sweep
from pipelines.cluster.board import NOTHING_KNOWN, SHOW_EVERY_S, Listening, Report, listening, start_board
from pipelines.cluster.events import Tell, Told, Undisturbed
from pipelines.cluster.job import Job
from pipelines.cluster.parallel import nothing_fits
from pipelines.cluster.patience import Patience
from pipelines.cluster.session import ray_session
from pipelines.cluster.stopping import Wish, stop_signals
from pipelines.cluster.watchdog import Waiting, Watchdog
from pipelines.data.sharing import share_images
from pipelines.errors import Interrupted, TrainingError
from pipelines.runs.lock import refuse_if_lost, taken_over
from pipelines.settings import RaySettings, Settings


def train(job: Job, settings: Settings, hear: Tell) -> None:
    """Train a run to its length on Ray's workers, replacing those that die; the final checkpoint is in `job.run`.

    Args:
        job: what to train; the caller holds its run's lock.
        settings: where, and on how many workers.
        hear: called, from a thread, with what worker 0 and the driver tell; its errors do not end training.

    Raises:
        TrainingError: the workers cannot be had or die too often, or training cannot go on (a loss that is not finite).
        DataError, StoreError: the images cannot be put where the workers have them from.
        Interrupted: SIGTERM or Ctrl-C came; the state is saved.
        RunLocked: another driver has taken the run over; the state is saved for it.
    """
    sweep(job.key)
    job = replace(job, images=share_images(job.prepared, settings))
    patience = Patience(settings.ray.max_failures, settings.ray.same_step_failures)
    wish, there = Wish(), False
    while not there:
        with ray_session(settings) as ray, _ray_train_environment(settings.ray), stop_signals(wish):
            there = _Training(ray, job, settings.ray, hear, wish, patience).run()


class _Training:
    """The attempts within one session of Ray, one after the other."""

    def __init__(
        self, ray: ModuleType, job: Job, settings: RaySettings, hear: Tell, wish: Wish, patience: Patience
    ) -> None:
        self._ray = ray
        self._job = job
        self._settings = settings
        self._hear = Undisturbed(hear)
        self._wish = wish
        self._board = start_board(ray)
        self._known = NOTHING_KNOWN
        self._patience = patience
        self._passed_on = False

    def run(self) -> bool:
        """Until the run has its length; False if another session must go on.

        Where Ray's own parts died the placement group of the dead attempt would hold its CPUs until the session ends.
        """
        from ray.exceptions import RayError

        while True:
            try:
                failed = self._attempt()
            except RayError:  # nobody else is asked
                failed = Failed({}, of_ray="the board between workers and driver died")
            if failed is None:
                return True
            self._report_failure(failed)
            if failed.of_ray:
                return False

    def _attempt(self) -> Failed | None:
        """One attempt; None when the run has its length."""
        ray, board, settings = self._ray, self._board, self._settings
        workers = count_workers(ray, settings, self._job.params.train.virtual_shards)
        ray.get(board.begin.remote())
        self._known = NOTHING_KNOWN
        most = workers if isinstance(workers, int) else workers[1]
        looks = [
            self._give_way,
            self._pass_wish_on,
            Watchdog(ray, self._report, self._hear, settings).look,
            Waiting(ray, self._report, self._hear, settings, most).look,
        ]
        with listening(ray, board, self._hear, looks) as listener:
            failed = self._in_thread(workers, listener)
        report = self._report()
        if report.failure:
            raise TrainingError(report.failure)
        if report.stopped and not report.stopped.preempted:
            refuse_if_lost(self._job.run)
            raise Interrupted(
                f"{self._wish.reason or 'asked to stop'}: training stopped after step {report.stopped.step} and saved "
                "it. Run the same command again to go on from there"
            )
        return Failed({}, preempted=True) if report.stopped else failed

    def _in_thread(self, workers: Workers, listener: Listening) -> Failed | None:
        """Ray Train runs in another thread: so it cannot take the signals of this one.

        Where nobody hears of the workers any more they are to stop, and what has ended the listening is raised. They
        get their time for it: a thread that is in Ray when Ray is left may abort this process later.
        """
        ended: Future[Failed | None] = Future()

        def fit() -> None:
            try:
                ended.set_result(attempt(self._job, self._settings, workers, self._board))
            except BaseException as error:
                ended.set_exception(error)

        threading.Thread(target=fit, name="ray-train", daemon=True).start()
        while not wait([ended], SHOW_EVERY_S).done:
            if listener.error:
                self._board.stop.remote("nobody listens any more")
                wait([ended], self._settings.grace_s)
                raise listener.error
            if self._wish.age_s > self._settings.grace_s:
                raise Interrupted(
                    f"{self._wish.reason}: the workers did not end their step and save within ray.grace_s = "
                    f"{self._settings.grace_s:g} s. Run the same command again to go on from the newest checkpoint"
                )
        return ended.result()

    def _give_way(self) -> None:
        """To a driver that has taken the run over, because this one was not heard of for so long."""
        if other := taken_over(self._job.run):
            self._wish(f"the run was taken over by {other}")

    def _pass_wish_on(self) -> None:
        """From the signal's handler, which must not wait, to the board."""
        if self._wish.reason and not self._passed_on:
            self._passed_on = True
            self._hear(Told(f"{self._wish.reason}: ending this step and saving; again to stop at once"))
            self._ray.get(self._board.stop.remote(self._wish.reason))

    def _report(self) -> Report:
        report: Report = self._ray.get(self._board.report.remote())
        self._known = report
        return report

    def _last_report(self) -> Report:
        """The last one that there was, where the board is gone."""
        from ray.exceptions import RayError

        try:
            return self._report()
        except RayError:
            return self._known

    def _report_failure(self, failed: Failed) -> None:
        """Tell of it, and give up where it is no chance."""
        if failed.preempted:
            self._hear(Told("a worker's machine is taken away; going on with others"))
            return
        report = self._last_report()
        what = failed.describe(report)
        if reason := self._patience.after(report.step, report.saved is not None):
            raise TrainingError(
                f"{reason}. {what}. The checkpoints are kept: run the stage again to go on from the newest"
            )
        if self._wish.reason:
            raise Interrupted(f"{self._wish.reason}, and {what}: run the same command again to go on")
        self._hear(
            Told(f"{what}. New workers go on ({self._patience.count} of {self._settings.max_failures} failures)")
        )


def count_workers(ray: ModuleType, settings: RaySettings, shards: int) -> Workers:
    """How many workers train: as set, or the largest power of two that fits the cluster and the virtual shards.

    Raises:
        TrainingError: more than the virtual shards, or than fit a Ray that was started here.
    """
    most = settings.most_workers
    if most is not None and most > shards:
        raise TrainingError(
            f"ray.workers is {most}, but a batch is cut into train.virtual_shards = {shards} parts: use at "
            f"most {shards} workers, or more virtual shards (which is another run)"
        )
    there = ray.cluster_resources()
    wanted = {"CPU": settings.cpus_per_worker, "GPU": settings.gpus_per_worker}
    fitting = min(int(there.get(kind, 0) / amount) for kind, amount in wanted.items() if amount)
    least = settings.least_workers
    if settings.address is None and fitting < least:
        raise nothing_fits(f"{least} worker{'s' * (least > 1)} cannot be had on this machine", wanted, there)
    if settings.workers == "auto":
        return 1 << (max(1, min(fitting, shards)).bit_length() - 1)
    return settings.workers


@contextmanager
def _ray_train_environment(settings: RaySettings) -> Iterator[None]:
    """The environment variables that Ray Train reads in the driver and passes on; restored afterwards."""
    variables = {
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_TRAIN_COLLECTIVE_TIMEOUT_S": str(settings.collective_timeout_s),
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(settings.start_timeout_s),
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": str(int(settings.address is not None)),  # nobody takes this machine away
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
