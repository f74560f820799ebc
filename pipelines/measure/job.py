"""A sampling job from its first batch to its folder, on Ray's workers; a killed one goes on from what it had drawn."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from pipelines.cluster.parallel import on_ray, workers_at_once
from pipelines.cluster.record import hardware_of
from pipelines.cluster.session import ray_session
from pipelines.measure.committed import Committed, job_key
from pipelines.measure.drawing import Drawing
from pipelines.measure.sampling import Speed, draw_samples, read_samples
from pipelines.runs.address import run_store
from pipelines.runs.digest import digest
from pipelines.runs.lock import run_lock
from pipelines.settings import Settings
from pipelines.stage import outputs
from pipelines.tracking.took import Took, note


def draw_job(final: Path, drawing: Drawing, settings: Settings) -> tuple[Speed, int]:
    """Leave the samples in `final`, and note what they cost under their card; the speed, and the number of workers.

    Raises:
        RunLocked: another process is at the same job.
        PipelineError: as `draw_samples`.
    """
    store = run_store(settings, job_key(drawing))
    committed = Committed(store)
    with run_lock(store):
        committed.begin()
        with ray_session(settings) as ray, outputs(final) as folder:
            workers = workers_at_once(ray, settings)
            speed = draw_samples(folder, drawing.shared(settings), on_ray(settings), committed)
        committed.remove()
    if speed.images:
        card = asdict(read_samples(final).card)
        note("sample", digest(card), Took(speed.seconds, workers, speed.images, hardware_of(drawing.model.device)))
    return speed, workers
