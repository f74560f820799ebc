"""What the evaluate stage leaves: metrics.json, the bound per time and per image, a picture."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.measure.evaluating import Evaluation

if TYPE_CHECKING:
    import pandas as pd

METRICS = "metrics.json"
PER_TIMESTEP = "per_timestep.parquet"
PER_TIMESTEP_CSV = "per_timestep.csv"
PER_IMAGE = "per_image.parquet"
PICTURE = "bound_per_timestep.png"


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write all files of the stage."""
    from pipelines.report.pictures import bound_per_timestep

    text = json.dumps(metrics_of(evaluation), indent=2, allow_nan=False)
    (folder / METRICS).write_text(text + "\n", encoding="utf-8")
    per_timestep = per_timestep_of(evaluation)
    per_timestep.to_parquet(folder / PER_TIMESTEP, index=False)
    per_timestep.to_csv(folder / PER_TIMESTEP_CSV, index=False)
    per_image_of(evaluation).to_parquet(folder / PER_IMAGE, index=False)
    if len(per_timestep):  # a process of a single time has no L_t
        bound_per_timestep(per_timestep, folder / PICTURE)


def metrics_of(evaluation: Evaluation) -> dict[str, Any]:
    """The content of metrics.json: every number with its standard error where it has one, and its card."""
    distance, reference = evaluation.distance, evaluation.distance.card.reference
    floor = {"floor": reference.floor.value} if reference.floor else {}
    return {
        "bits_per_dim": {**bits_of(evaluation), "card": asdict(evaluation.card)},
        reference.metric: {"value": distance.value, **floor, "card": asdict(distance.card)},
        "yardstick": asdict(evaluation.yardstick),
    }


def bits_of(evaluation: Evaluation) -> dict[str, float]:
    """L_T, L_t_sum, L_0 and total with `_se`, their standard errors, in bits/dim."""
    numbers: dict[str, float] = {}
    for name, estimate in asdict(evaluation.bits.estimates()).items():
        numbers |= {name: estimate["mean"], f"{name}_se": estimate["standard_error"]}
    return numbers


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
