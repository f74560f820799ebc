"""The code of a registered model: MLflow runs this file when it loads a version.

It travels with the version, together with the package `diffusion` and the model file, and needs nothing else of this
repository.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext
from numpy.typing import NDArray

from diffusion.models.saved import SavedModel, load_model
from diffusion.process import to_levels
from diffusion.samplers import DDIM, Ancestral, sample, trailing
from diffusion.training.random import normal_per_image

DEFAULTS: dict[str, Any] = {"count": 1, "seed": 0, "sampler": "ancestral", "steps": 100, "label": -1}
"""What may be asked for. `label` -1: none, or for a model with classes each of them in turn."""
_BATCH = 128


class ServedModel(PythonModel):  # type: ignore[misc]  # mlflow is untyped here
    """`predict({"count": 16, "seed": 1, "sampler": "ddim", "steps": 50})` -> uint8 images (count, H, W, C)."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights that were evaluated; a damaged file is refused."""
        self.saved: SavedModel = load_model(Path(context.artifacts["model"]), context.model_config["weights"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> NDArray[np.uint8]:
        """Draw images; image i of a seed is the same whatever `count` is. Grey levels are spread over 0..255.

        Raises:
            ValueError: an unknown key or a value out of range.
        """
        asked = _asked(model_input, self.saved)
        images = [
            self._draw(asked, range(start, min(start + _BATCH, asked["count"])))
            for start in range(0, asked["count"], _BATCH)
        ]
        pixels = torch.cat(images).permute(0, 2, 3, 1).numpy().astype(np.float64)
        spread: NDArray[np.uint8] = np.rint(pixels * (255 / (self.saved.levels - 1))).astype(np.uint8)
        return spread

    def _draw(self, asked: dict[str, Any], ids: range) -> torch.Tensor:
        """Images of these numbers, (n, C, H, W) levels."""
        saved, seed = self.saved, asked["seed"]
        model = partial(saved.net, y=self._labels(asked, ids)) if saved.classes else saved.net
        x_0 = sample(
            model,
            saved.schedule,
            normal_per_image(seed, "draw-x_T", ids, 0, saved.shape),
            DDIM() if asked["sampler"] == "ddim" else Ancestral("learned" if saved.learned_variance else "small"),
            times=trailing(saved.schedule.T, min(asked["steps"], saved.schedule.T)),
            noise=lambda k, shape: normal_per_image(seed, "draw", ids, k, shape[1:]),
            target=saved.predicts,
        )
        return to_levels(x_0, saved.levels)

    def _labels(self, asked: dict[str, Any], ids: range) -> torch.Tensor:
        given, classes = asked["label"], self.saved.classes or 1
        return torch.tensor([i % classes if given < 0 else given for i in ids])


def _asked(model_input: Any, saved: SavedModel) -> dict[str, Any]:
    """One request, checked, with defaults."""
    if isinstance(model_input, pd.DataFrame):
        if len(model_input) != 1:
            known = ", ".join(DEFAULTS)
            raise ValueError(f"ask for one set of images, one row with some of {known}; got {len(model_input)} rows")
        model_input = model_input.iloc[0].dropna().to_dict()
    given = {name: value for name, value in dict(model_input).items() if value is not None}
    if unknown := sorted(set(given) - set(DEFAULTS)):
        raise ValueError(f"unknown: {', '.join(unknown)}; known: {', '.join(DEFAULTS)}")
    asked = DEFAULTS | given
    for name in ("count", "seed", "steps", "label"):
        asked[name] = int(asked[name])
    if asked["sampler"] not in ("ancestral", "ddim"):
        raise ValueError(f"sampler must be ancestral or ddim, got {asked['sampler']!r}")
    if asked["count"] < 1 or asked["steps"] < 1:
        raise ValueError(f"count and steps must be at least 1, got {asked['count']} and {asked['steps']}")
    if asked["label"] >= (saved.classes or 0):
        raise ValueError(f"this model has {saved.classes or 'no'} classes, got label {asked['label']}")
    return asked


set_model(ServedModel())
