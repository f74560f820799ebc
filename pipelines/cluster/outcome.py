"""A finished run, and what the train stage leaves of it: the model, its numbers, curves and pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffusion.models.saved import save_model
from diffusion.process import NoiseSchedule
from diffusion.training.history import History
from diffusion.training.points import BoundPoint, LossPoint, Point
from pipelines.build import architecture, build_schedule
from pipelines.cluster.job import Job
from pipelines.cluster.objective import build_weightings
from pipelines.cluster.record import Record
from pipelines.data.dataset import open_split
from pipelines.data.manifest import Manifest, read_manifest
from pipelines.params import Params
from pipelines.runs.checkpoint import Checkpoint, checkpoint_at

if TYPE_CHECKING:
    import pandas as pd

METRICS, LOSS, RUNNING, VALIDATION = "metrics.json", "loss.csv", "running_bound.csv", "validation.csv"
SUMMARY = "summary.json"
"""The few numbers of metrics.json that DVC shows side by side."""
_STRIP = 6
"""Images in the noising strip."""


@dataclass(frozen=True)
class Finished:
    """A run at the end of its length."""

    job: Job
    checkpoint: Checkpoint

    @cached_property
    def history(self) -> History:
        """The curves."""
        history = History()
        history.load(self.checkpoint.load("history"))
        return history

    @cached_property
    def bound(self) -> BoundPoint | None:
        """The validation bound at the end."""
        values = self.checkpoint.state["final_bound"]
        return None if values is None else BoundPoint(**{**values, "bins": tuple(values["bins"])})

    @property
    def bounds(self) -> list[BoundPoint]:
        """The validation curve, with the bound at the end."""
        known = [point for point in self.history.bounds if point != self.bound]
        return known if self.bound is None else [*known, self.bound]

    @property
    def points(self) -> list[Point]:
        """All curves."""
        return [*self.history.losses, *self.history.running, *self.bounds]

    @property
    def loss(self) -> LossPoint | None:
        """The last point of the loss curve; None for a run shorter than its first."""
        return self.history.losses[-1] if self.history.losses else None


def finished(job: Job) -> Finished | None:
    """The final state of exactly the job's length, if the run has been there."""
    checkpoint = checkpoint_at(job.run, job.params.train.steps)
    return Finished(job, checkpoint) if checkpoint and checkpoint.final else None


def write_outcome(run: Finished, folder: Path) -> str:
    """Write everything to `folder`; the content digest of the model."""
    manifest = read_manifest(run.job.prepared)
    digest = _write_model(run, manifest, folder)
    metrics = metrics_of_run(run)
    for name, content in ((METRICS, metrics), (SUMMARY, summary_of(metrics))):
        (folder / name).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    curves = Curves(loss_table(run.history.losses), bound_table(run.history.running), bound_table(run.bounds))
    for name, curve in ((LOSS, curves.loss), (RUNNING, curves.running), (VALIDATION, curves.validation)):
        curve.to_csv(folder / name, index=False)
    _draw(run, curves, folder)
    return digest


@dataclass(frozen=True)
class Curves:
    """The curves of a run, one point a row."""

    loss: pd.DataFrame
    running: pd.DataFrame
    """The running bound, see `diffusion.training.tally`."""
    validation: pd.DataFrame


def metrics_of_run(run: Finished) -> dict[str, Any]:
    """The numbers of the stage; all finite."""
    weights = run.checkpoint.load("weights")
    metrics: dict[str, Any] = {
        "steps": run.checkpoint.step,
        "parameters": sum(tensor.numel() for tensor in weights.values()),
    }
    if run.loss:
        metrics["loss"] = run.loss.loss
    if run.bound:
        metrics["validation_bits_per_dim"] = run.bound.numbers() | {"card": _validation_card(run)}
    return metrics


def summary_of(metrics: dict[str, Any]) -> dict[str, float]:
    """metrics.json without cards and single terms: flat, the validation bound as one number with its error."""
    found = {name: value for name, value in metrics.items() if not isinstance(value, dict)}
    if bound := metrics.get("validation_bits_per_dim"):
        found |= {"validation_bits_per_dim": bound["total"], "validation_bits_per_dim_se": bound["total_se"]}
    return found


def summary(run: Finished, digest: str) -> str:
    """One line for a person."""
    parts = [f"trained {run.checkpoint.step} steps"]
    if run.loss:
        parts.append(f"loss {run.loss.loss:.4f}")
    if run.bound:
        parts.append(f"validation bound {run.bound.total:.3f} ± {run.bound.total_se:.3f} bits/dim")
    return f"{', '.join(parts)}; model {digest[:12]}"


def loss_table(points: Sequence[LossPoint]) -> pd.DataFrame:
    """A row for each point, with its fields as columns."""
    import pandas as pd

    return pd.DataFrame([asdict(point) for point in points], columns=[field.name for field in fields(LossPoint)])


def bound_table(points: Sequence[BoundPoint]) -> pd.DataFrame:
    """A row for each point: `step`, the terms with standard errors, the bins; without points only the first column."""
    import pandas as pd

    return pd.DataFrame(
        [{"step": point.step} | point.numbers() for point in points] or None, columns=None if points else ["step"]
    )


def _write_model(run: Finished, manifest: Manifest, folder: Path) -> str:
    params = run.job.params
    return save_model(
        folder,
        architecture=architecture(params.model, manifest, null_label=params.train.label_dropout > 0),
        ema=run.checkpoint.load("ema"),
        raw=run.checkpoint.load("weights"),
        schedule=build_schedule(params.process),
        levels=manifest.levels,
        card=_card(run),
        predicts=params.model.predicts,
    )


def _card(run: Finished) -> dict[str, Any]:
    """How the model came about, from what the run has kept: the same whenever it is written."""
    params, record = run.job.params, Record.from_state(run.checkpoint.state)
    return {
        "run": run.job.key,
        "steps": run.checkpoint.step,
        "samples_seen": run.checkpoint.state["samples_seen"],
        "seed": params.seed,
        "process": params.process.model_dump(mode="json"),
        "model": params.model.model_dump(mode="json"),
        "train": params.train.model_dump(mode="json"),
        "data": record.data,
        "reduction": record.reduction,
        "platforms": [asdict(platform) for platform in record.platforms],
        "resumed_from": list(record.resumed_from),
        "validation": None if run.bound is None else run.bound.numbers() | _validation_card(run),
    }


def cards(run: Finished) -> dict[str, dict[str, Any]]:
    """How both bounds of the curves are measured, by the names that their numbers begin with."""
    params = run.job.params
    validation = _validation_card(run)
    running = {
        **validation,
        "split": "train",
        "images": params.train.batch_size * params.train.log_every,
        "calls": 1,
        "clip_x0": False,
        "weights": "raw",
        "training_mode": True,
        "horizontal_flip": params.train.horizontal_flip,
        "label_dropout": params.train.label_dropout,
    }
    return {"bound": validation, "bound_running": running}


def _validation_card(run: Finished) -> dict[str, Any]:
    """Without these a bound means nothing."""
    params = run.job.params
    return {
        "split": "val",
        "images": min(params.train.val_images, len(open_split(run.job.prepared, "val"))),
        "times": params.process.T,
        "calls": params.train.val_calls,
        "first_time": 1,
        "decoder": params.train.decoder,
        "labels": params.model.class_conditional,
        "variance": "learned" if params.model.learned_variance else "small",
        "clip_x0": True,
        "weights": "ema",
        "seed": params.seed,
    }


def loss_name(params: Params) -> str:
    """What the training loss of these parameters is, for a picture."""
    train = params.train
    errors = {"eps": "ε − ε̂", "x_0": "x₀ − x̂₀", "v": "v − v̂"}
    bound = "the bound's terms, T Lₜ, in bits/dim"
    if train.objective == "bound":
        return bound
    if train.weighting == "none":
        simple = f"mean of ({errors[params.model.predicts]})² per pixel"
    else:
        simple = f"mean of wₜ (ε − ε̂)² per pixel, weights “{train.weighting}”"
    return simple if train.objective == "simple" else f"{simple}\n+ {train.hybrid_weight:g} × {bound}"


def _draw(run: Finished, curves: Curves, folder: Path) -> None:
    from pipelines.report import pictures

    params = run.job.params
    schedule = build_schedule(params.process)
    train = open_split(run.job.prepared, "train")
    if len(curves.loss):
        pictures.loss_curve(curves.loss, folder / "loss.png", loss_name(params))
    pictures.terms_over_training(curves.running, curves.validation, folder / "bound.png")
    pictures.loss_weights(
        schedule,
        build_weightings(params),
        folder / "weights.png",
        used="bound" if params.train.objective == "bound" else params.train.weighting,
        learned_variance=params.model.learned_variance,
    )
    pictures.schedule_curves(schedule, NoiseSchedule.linear(), folder / "schedule.png")
    shown = train.read(np.arange(min(_STRIP, len(train))))
    pictures.noising_strip(schedule, shown, train.levels, folder / "noising.png")
