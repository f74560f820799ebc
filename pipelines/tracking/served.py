"""The code of a registered model: MLflow runs this file when it loads a version.

It travels with the version, together with the package `diffusion` and the model file, and needs nothing else of this
repository.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext
from numpy.typing import NDArray

from diffusion.drawing import Guidance, Recipe, draw
from diffusion.models.saved import SavedModel, load_model
from diffusion.samplers import options_of

DEFAULTS: dict[str, Any] = {"count": 1, "seed": 0, "sampler": "ancestral", "steps": 100, "label": -1, "guidance": 0.0}
"""What may be asked for. `label` -1: none, or for a model with classes each of them in turn. `guidance`: w of
classifier-free guidance, for a model that was trained with labels left out."""
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
        pixels = np.concatenate(images).transpose(0, 2, 3, 1).astype(np.float64)
        spread: NDArray[np.uint8] = np.rint(pixels * (255 / (self.saved.levels - 1))).astype(np.uint8)
        return spread

    def _draw(self, asked: dict[str, Any], ids: range) -> NDArray[np.uint8]:
        """Images of these numbers, (n, C, H, W) levels."""
        saved, name = self.saved, asked["sampler"]
        variance = {"variance": "learned" if saved.learned_variance else "small"}
        options = variance if "variance" in options_of(name) else {}
        guidance = Guidance("classifier_free", asked["guidance"]) if asked["guidance"] else Guidance()
        recipe = Recipe(name, min(asked["steps"], saved.schedule.T), options=options, guidance=guidance)
        return draw(saved, recipe, asked["seed"], ids, label=None if asked["label"] < 0 else asked["label"]).images


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
    asked["guidance"] = float(asked["guidance"])
    options_of(asked["sampler"])
    if asked["count"] < 1 or asked["steps"] < 1:
        raise ValueError(f"count and steps must be at least 1, got {asked['count']} and {asked['steps']}")
    if asked["label"] >= (saved.classes or 0):
        raise ValueError(f"this model has {saved.classes or 'no'} classes, got label {asked['label']}")
    return asked


set_model(ServedModel())
