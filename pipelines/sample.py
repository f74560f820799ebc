"""Stage `sample`: images drawn from the trained model on any number of workers, with the same bits on each.

Image i depends on (seed, i) alone. Every batch is kept when it is done, so that a killed job goes on from there; the
files appear together when all images are there, or not at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.measure.sampling import Speed


def main() -> None:
    """Draw what params.yaml asks for and leave it in results/sample/."""
    from dataclasses import asdict

    from pipelines.cluster.code import code_tags
    from pipelines.data.manifest import read_manifest
    from pipelines.measure.drawing import drawing_of
    from pipelines.measure.job import draw_job
    from pipelines.measure.sampling import CARD, GRID, STRIP, read_samples
    from pipelines.params import load_params
    from pipelines.project import results
    from pipelines.runs.digest import digest
    from pipelines.settings import load_settings
    from pipelines.tracking.machine import work
    from pipelines.tracking.run import stage_run

    params, settings = load_params(), load_settings()
    classes = read_manifest(results("prepare")).classes
    drawing = drawing_of(params, settings, results("train"), results("classifier"), classes)
    final = results("sample")
    with work() as done:
        speed, workers = draw_job(final, drawing, settings)
    card = asdict(read_samples(final).card)
    with stage_run("sample", params, settings, key=digest(card)) as tracker:
        tracker.work("sample", done, workers)
        tracker.tags({"model.digest": drawing.model.digest} | code_tags(settings))
        tracker.metrics(0, metrics_of(speed))
        for name in (CARD, GRID, STRIP):
            tracker.artifact(final / name)
    pace = f" at {speed.images_per_second:.1f} images/s" if speed.images_per_second else ""
    print(f"{card['count']} samples with {speed.calls} network calls each{pace}; look at {_from_here(final / GRID)}")


def _from_here(path: Path) -> Path:
    """As one would type it in the project; a job's own folder is gone when its words are read."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def metrics_of(speed: Speed) -> dict[str, float]:
    """What is tracked of the drawing."""
    metrics: dict[str, float] = {"sampling/calls": speed.calls, "sampling/images": speed.images}
    if speed.images_per_second:
        metrics |= {"sampling/seconds": speed.seconds, "sampling/images_per_second": speed.images_per_second}
    return metrics


if __name__ == "__main__":
    from pipelines.remote.stage import run_stage

    run_stage(main)
