"""What the evaluate stage leaves: metrics.json, its summary, the bound per time, per bin and per image, pictures."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.measure.evaluating import Evaluation
from pipelines.report.scores import distances

if TYPE_CHECKING:
    import pandas as pd

METRICS = "metrics.json"
SUMMARY = "summary.json"
"""The few numbers that DVC shows side by side."""
PER_TIMESTEP = "per_timestep.parquet"
PER_TIMESTEP_CSV = "per_timestep.csv"
PER_IMAGE = "per_image.parquet"
SHARES = "bound_shares.csv"


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write all files of the stage."""
    from pipelines.report.pictures import bits_per_image, bound_per_timestep, bound_shares

    metrics = metrics_of(evaluation)
    for name, content in ((METRICS, metrics), (SUMMARY, summary_of(metrics))):
        (folder / name).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    per_timestep = per_timestep_of(evaluation)
    per_timestep.to_parquet(folder / PER_TIMESTEP, index=False)
    per_timestep.to_csv(folder / PER_TIMESTEP_CSV, index=False)
    per_image_of(evaluation).to_parquet(folder / PER_IMAGE, index=False)
    shares, bits = shares_of(evaluation), evaluation.bits.estimates()
    shares.to_csv(folder / SHARES, index=False)
    if len(per_timestep):  # a process of a single time has no L_t
        bound_per_timestep(per_timestep, folder / "bound_per_timestep.png")
        terms = {"L_T": bits.L_T.mean, "L_0": bits.L_0.mean, "L_0_se": bits.L_0.standard_error}
        bound_shares(shares, folder / "bound_shares.png", first_time=evaluation.card.first_time, **terms)
    bits_per_image(
        evaluation.bits.total,
        evaluation.images.read,
        evaluation.card.levels,
        folder / "bits_per_image.png",
        uniform=evaluation.yardstick.uniform,
        histogram=evaluation.yardstick.histogram,
        density=evaluation.card.density,
    )


def metrics_of(evaluation: Evaluation) -> dict[str, Any]:
    """The content of metrics.json: every number with its standard error where it has one, and its card."""
    return {
        "bits_per_dim": {**bits_of(evaluation), "card": asdict(evaluation.card)},
        evaluation.distance.metric: evaluation.distance.content(),
        "yardstick": asdict(evaluation.yardstick),
    }


def summary_of(metrics: dict[str, Any]) -> dict[str, float]:
    """The handful of numbers of metrics.json that people compare, flat: the bound and the distance of the samples."""
    bits = metrics["bits_per_dim"]
    found: dict[str, float] = {"bits_per_dim": bits["total"], "bits_per_dim_se": bits["total_se"]}
    for name, distance in distances(metrics).items():
        found |= {name: distance["value"], f"{name}_se": distance["value_se"], f"{name}_infinity": distance["infinity"]}
        found |= {key: distance[key] for key in ("precision", "recall")}
    return found


def bits_of(evaluation: Evaluation) -> dict[str, float]:
    """L_T, L_t_sum, L_0 and total with `_se`, their standard errors, in bits/dim."""
    bits = evaluation.bits.estimates()
    terms = {"L_T": bits.L_T, "L_t_sum": bits.L_t_sum, "L_0": bits.L_0, "total": bits.total}
    means = {name: term.mean for name, term in terms.items()}
    return means | {f"{name}_se": term.standard_error for name, term in terms.items()}


def per_timestep_of(evaluation: Evaluation) -> pd.DataFrame:
    """One row per time that has an L_t: t, its mean over the images and the standard error, in bits/dim."""
    import pandas as pd

    bits = evaluation.bits
    return pd.DataFrame({"t": bits.t, "L_t": bits.L_t.mean, "L_t_se": bits.L_t.standard_error})


def per_image_of(evaluation: Evaluation) -> pd.DataFrame:
    """One row per image: its id and the terms of its bound, in bits/dim."""
    import pandas as pd

    bits = evaluation.bits
    terms = {"L_T": bits.L_T, "L_t_sum": bits.L_t_sum, "L_0": bits.L_0, "total": bits.total}
    return pd.DataFrame({"image_id": evaluation.image_ids, **terms})


def shares_of(evaluation: Evaluation) -> pd.DataFrame:
    """What each bin of times costs: `first` and `last` time, `log_snr` in its middle, `bits`, `bits_se`.

    Bins are equally wide in log SNR; one between two neighbouring times is empty and has no times.
    """
    import pandas as pd

    bits = evaluation.bits
    ranges = [times or (None, None) for times in bits.bins.ranges]
    parts = bits.estimates().L_t_bins
    return pd.DataFrame(
        {
            "first": pd.array([first for first, _ in ranges], dtype="Int64"),
            "last": pd.array([last for _, last in ranges], dtype="Int64"),
            "log_snr": bits.bins.log_snr,
            "bits": [part.mean for part in parts],
            "bits_se": [part.standard_error for part in parts],
        }
    )
