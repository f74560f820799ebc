"""Measurements and versions made up for tests: numbers, cards and tables without a model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.comparison.measurement import Measurement
from pipelines.comparison.side_by_side import Column, Entry
from pipelines.errors import TrackingError
from pipelines.tracking.registry import Version

IMAGES = 40


def gone() -> Path:
    """What fetching files that were deleted comes to."""
    raise TrackingError("gone")


def measurement(
    folder: Path | None = None,
    total: float = 2.0,
    *,
    noise: int = 0,
    error: float = 0.05,
    distance: float = 3.5,
    when: int = 0,
    bound_card: dict[str, Any] | None = None,
    distance_card: dict[str, Any] | None = None,
) -> Measurement:
    """Numbers as an evaluation has them.

    Args:
        folder: where its tables and samples are written; without, they are gone.
        noise: seed of what is this model's own in the cost of each image, of deviation 0.02.
    """
    shared = {"split": "test", "images": IMAGES, "first_time": 1, "weights": "ema", "seed": 0, "levels": 17}
    shared |= {"device": "cpu", "batch_size": 128, "model_digest": f"{noise:064}"}
    terms = {"L_T": 0.1, "L_t_sum": total - 0.2, "L_0": 0.1, "total": total}
    errors = {"L_T_se": 1e-4, "L_t_sum_se": error, "L_0_se": 0.01, "total_se": error}
    samples = {"sampler": "ancestral", "steps": 250, "seed": 0, "model_digest": f"{noise:064}"}
    card = {"samples": samples, "scoring": {"paired": 400, "level": 0.95}, "warnings": []}
    scores = {"images": 400, "value": distance, "value_se": 0.2, "infinity": distance - 2, "infinity_se": 0.3}
    scores |= {"kid": 1.0, "kid_se": 0.5, "precision": 0.75, "recall": 0.8, "low": 3.0, "high": 4.0}
    content: dict[str, Any] = {
        "bits_per_dim": {**terms, **errors, "card": shared | (bound_card or {})},
        "fd_classifier": {**scores, "card": card | copy.deepcopy(distance_card or {})},
    }
    if folder is not None:
        write_tables(folder, terms, noise)
    return Measurement(f"{total}{noise}", content, when, gone if folder is None else lambda: folder)


def write_tables(folder: Path, terms: dict[str, float], noise: int) -> None:
    """The cost of images, which are as unlike one another in all models, the curve, and some samples."""
    folder.mkdir(parents=True)
    shared = np.random.default_rng(1000).normal(0, 0.4, IMAGES)
    own = np.random.default_rng(noise).normal(0, 0.02, IMAGES)
    rest = shared - shared.mean() + own - own.mean()
    table = pd.DataFrame({"image_id": [f"{i:04}" for i in range(IMAGES)], "L_T": terms["L_T"], "L_0": terms["L_0"]})
    table["L_t_sum"], table["total"] = terms["L_t_sum"] + rest, terms["total"] + rest
    table.to_parquet(folder / "per_image.parquet", index=False)
    t = np.arange(2, 51)
    weight = np.exp(-t / 10) * (1 + 0.05 * np.random.default_rng(noise).normal(size=len(t)))
    curve = terms["L_t_sum"] * weight / weight.sum()
    pd.DataFrame({"t": t, "L_t": curve, "L_t_se": curve / 10}).to_parquet(folder / "per_timestep.parquet", index=False)
    np.save(folder / "samples.npy", np.random.default_rng(noise).integers(0, 17, (64, 1, 8, 8), dtype=np.uint8))


def entry(number: int, *measurements: Measurement, aliases: tuple[str, ...] = (), **params: str) -> Entry:
    """A version with these measurements."""
    import json

    known = {"seed": "0", "train.steps": "1000", "register.name": "m"} | {
        k.replace("__", "."): v for k, v in params.items()
    }
    training = {"steps": int(known["train.steps"]), "parameters": 1234}
    tags = {
        "model.digest": f"{number:064}",
        "weights": "ema",
        "params": json.dumps(known),
        "training": json.dumps(training),
    }
    return Entry(Version("m", number, aliases, 1_700_000_000_000, "run", tags), measurements)


def column(*arguments: Any, **options: Any) -> Column:
    """One version as a column."""
    from pipelines.comparison.grids import title_of

    made = entry(*arguments, **options)
    return Column(title_of(made), (made,))
