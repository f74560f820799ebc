"""The train stage: the prepared images to a model, in results/train/. Its checkpoints are in the run's own folder.

The run is named by what its result depends on, so the same parameters, data and code find the same run: one that was
interrupted goes on from its newest checkpoint, one that is finished is taken as it is, and a longer one goes on from
the shorter. Where it runs, and on how many workers, is no part of that.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.build import architecture, build_schedule
from pipelines.cluster.job import Job
from pipelines.data.manifest import Manifest, verify
from pipelines.errors import ParamsError, TrainingError
from pipelines.params import Params, load_params
from pipelines.project import results, workspace
from pipelines.report.progress import RELAY
from pipelines.settings import Settings, load_settings
from pipelines.stage import outputs

if TYPE_CHECKING:
    from pipelines.cluster.events import Event
    from pipelines.cluster.outcome import Finished
    from pipelines.cluster.watch import Tracker

_PREDECESSOR_S = 150.0
"""How long a job waits for the one before it, whose machine was lost: its processes may save, a lease run out."""


def code_of_a_step() -> list[Path]:
    """The code that a run's result depends on."""
    core = workspace() / "diffusion"
    own = workspace() / "pipelines"
    packages = [core / "process", core / "models", core / "training"]
    return [
        *packages,
        own / "build.py",
        *(own / "cluster" / name for name in ("assemble.py", "objective.py", "loop.py")),
    ]


def params_of_a_run(params: Params) -> dict[str, Any]:
    """The parameters that a run's result depends on.

    The number of steps is none of them while the learning rate is constant: a step then does not know how many will
    follow, and a longer run goes on from a shorter one.
    """
    train = params.train.model_dump(mode="json")
    if params.train.learning_rate_schedule == "constant":
        del train["steps"]
    return {
        "seed": params.seed,
        "process": params.process.model_dump(mode="json"),
        "model": params.model.model_dump(mode="json"),
        "train": train,
    }


def make_job(params: Params, settings: Settings, prepared: Path) -> Job:
    """The run that these parameters and images name.

    Raises:
        DataError: there are no prepared images, or they are damaged.
        ParamsError: the parameters do not fit them, or storage.uri is none.
    """
    from pipelines.runs.address import run_store
    from pipelines.runs.key import run_key

    manifest = verify(prepared)
    check(params, manifest)
    key = run_key(params_of_a_run(params), manifest.digest, code_of_a_step())
    return Job(
        params=params,
        prepared=prepared,
        run=run_store(settings, key),
        key=key,
        every_steps=settings.checkpoint.every_steps,
        keep=settings.checkpoint.keep,
        continue_unsaved=settings.checkpoint.on_error == "continue",
        loaders=settings.ray.loaders_per_worker,
        loader_patience_s=settings.ray.loader_patience_s,
    )


def job_key(params: Params, settings: Settings) -> str:
    """What names a job elsewhere: the run, so that two jobs never train the same one.

    Raises:
        PipelineError: as `make_job`: what would stop the job is found before there is one.
    """
    return make_job(params, settings, results("prepare")).key


def check(params: Params, manifest: Manifest) -> None:
    """Find here what would stop the workers.

    Raises:
        ParamsError: the network or the batch does not fit the images.
    """
    from pipelines.cluster.assemble import batches

    architecture(params.model, manifest)
    build_schedule(params.process)
    try:
        batches(params, manifest.counts["train"])
    except ValueError as error:
        raise ParamsError(str(error)) from None


def trained(job: Job, settings: Settings, tracker: Tracker) -> Finished:
    """The finished run: as it is, or after training it from wherever it is.

    Raises:
        TrainingError: training cannot go on, or its result is not seen from here.
    """
    from pipelines.cluster.outcome import finished

    steps = job.params.train.steps
    if there := finished(job):
        print(f"run {job.key} has finished its {steps} steps before; nothing to train")
        return there
    from pipelines.cluster.costs import Costs
    from pipelines.cluster.gauges import Gauges
    from pipelines.cluster.trainer import train
    from pipelines.cluster.watch import watching

    print(f"run {job.key}: {steps} steps, checkpoints in {job.run}; starting the workers", flush=True)
    costs = Costs(job.key)
    with watching(steps, tracker, Gauges(job.key, job.params.train.batch_size)) as watch:

        def hear(event: Event) -> None:
            costs.hear(event)
            watch.hear(event)

        try:
            train(job, settings, hear)
        finally:
            costs.close()
    if done := finished(job):
        return done
    raise TrainingError(
        f"the workers are done, but {job.run} holds no whole final checkpoint of step {steps}: storage.uri in "
        "infra/cluster.yaml must be a place that this machine and all workers see"
    )


def main() -> None:
    """Train what params.yaml names, and leave the model with its curves and pictures."""
    from pipelines.cluster.code import code_tags
    from pipelines.cluster.outcome import METRICS, cards, summary, write_outcome
    from pipelines.cluster.watch import metrics_of
    from pipelines.runs.lock import refuse_if_lost, run_lock
    from pipelines.tracking.run import stage_run

    params, settings = load_params(), load_settings()
    job = make_job(params, settings, results("prepare"))
    final = results("train")
    with (
        run_lock(job.run, _PREDECESSOR_S if os.environ.get(RELAY) else 0),
        stage_run("train", params, settings, key=job.key) as tracker,
    ):
        run = trained(job, settings, tracker)
        refuse_if_lost(job.run)
        with outputs(final) as folder:
            digest = write_outcome(run, folder)
        for point in run.points:
            tracker.metrics(point.step, metrics_of(point))
        tracker.tags({"run": job.key, "model.digest": digest} | code_tags(settings))
        tracker.tags({f"{name}.card": json.dumps(card, sort_keys=True) for name, card in cards(run).items()})
        for path in (final / METRICS, *sorted(final.glob("*.png"))):
            tracker.artifact(path)
    print(summary(run, digest))


if __name__ == "__main__":
    from pipelines.remote.stage import run_stage

    run_stage(main, job_key)
