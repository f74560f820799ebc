"""The code of a registered model: MLflow runs this file when it loads a version.

It travels with the version, together with the package `diffusion` and the model file, and needs nothing else of this
repository. MLflow verifies nothing that it loads; so the model's weights, its description and all this code are
compared with the digests that stand in the version's MLmodel, before any of the package is imported. Python loads a
package once for a process, whatever version asks for it; so the one that it has is compared as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext
from numpy.typing import NDArray

if TYPE_CHECKING:
    from diffusion.models.saved import SavedModel

DEFAULTS: dict[str, Any] = {
    "count": 1,
    "seed": 0,
    "sampler": "ancestral",
    "steps": 100,
    "class": None,
    "guidance": None,
}
"""What may be asked for. `class` null: none, or for a model with classes each of them in turn. `guidance`: w of
classifier-free guidance, for a model that was trained with labels left out; null or 0: without."""
_BATCH = 128
_REMEDY = "register it again from its results"


class ServedModel(PythonModel):  # type: ignore[misc]  # mlflow is untyped here
    """`predict({"count": 16, "seed": 1, "sampler": "ddim", "steps": 50})` -> uint8 images (count, H, W, C)."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights that were evaluated.

        Raises:
            ValueError: model or code are damaged, or not those that were registered; or this process runs other code.
        """
        folder, config = Path(context.artifacts["model"]), context.model_config
        _check_code(folder.parents[1], config["code_sha256"])
        _check_imported(config["code_sha256"])
        from diffusion.models.saved import load_model

        self.saved: SavedModel = load_model(folder, config["weights"])
        if self.saved.digest != config["model_digest"]:
            raise ValueError(f"the model of this version is not the one that was registered: {_REMEDY}")

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> NDArray[np.uint8]:
        """Draw images; image i of a seed is the same whatever `count` is. Grey levels are spread over 0..255.

        Raises:
            MlflowException: a value is out of range, or does not fit the model.
        """
        try:
            asked = _asked(model_input)
            images = [
                self._draw(asked, range(start, min(start + _BATCH, asked["count"])))
                for start in range(0, asked["count"], _BATCH)
            ]
        except ValueError as error:
            raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from None  # a server answers 400 with its text
        pixels = np.concatenate(images).transpose(0, 2, 3, 1).astype(np.float64)
        spread: NDArray[np.uint8] = np.rint(pixels * (255 / (self.saved.levels - 1))).astype(np.uint8)
        return spread

    def _draw(self, asked: dict[str, Any], ids: range) -> NDArray[np.uint8]:
        """Images of these numbers, (n, C, H, W) levels."""
        from diffusion.drawing import Guidance, Recipe, draw
        from diffusion.samplers import options_of

        saved, name = self.saved, asked["sampler"]
        variance = {"variance": "learned" if saved.learned_variance else "small"}
        options = variance if "variance" in options_of(name) else {}
        guidance = Guidance("classifier_free", asked["guidance"]) if asked["guidance"] else Guidance()
        recipe = Recipe(name, min(asked["steps"], saved.schedule.T), options=options, guidance=guidance)
        return draw(saved, recipe, asked["seed"], ids, label=asked["class"]).images


def _check_code(version: Path, wanted: dict[str, str]) -> None:
    """Refuse code that is not, file for file, that of the digests.

    What Python has kept of it in compiled form is removed: it would run that unread. It writes it anew.
    """
    code = [path for path in (version / "code").rglob("*") if path.is_file() or path.is_symlink()]
    compiled = [path for path in code if path.parent.name == "__pycache__"]
    found = _digests(version, {version / "served.py", *code}.difference(compiled))
    if wrong := _differing(found, wanted):
        raise ValueError(f"{wrong[0]} of this version is damaged, missing or not what was registered: {_REMEDY}")
    for path in compiled:
        try:
            path.unlink(missing_ok=True)  # another process may be loading this version, too
        except OSError as error:
            raise ValueError(f"{path} may not be this version's code, and cannot be removed: {error}") from None


def _check_imported(wanted: dict[str, str]) -> None:
    """Refuse to draw with a `diffusion` of another version, or of a repository, unless it is the same file for file."""
    import diffusion

    package = Path(diffusion.__path__[0])
    found = {f"code/{name}": digest for name, digest in _digests(package.parent, package.rglob("*.py")).items()}
    own = {name: digest for name, digest in wanted.items() if name.startswith("code/")}
    if wrong := _differing(found, own):
        raise ValueError(
            f"this process has imported other code than that of this version: {package} differs in {wrong[0]}; load "
            "each version in a process of its own, in which nothing else has imported a package `diffusion` before"
        )


def _digests(folder: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Name below the folder -> SHA-256; of a link, which no version has, nothing."""
    return {
        path.relative_to(folder).as_posix(): "" if path.is_symlink() else sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


def _differing(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))


def _asked(model_input: Any) -> dict[str, Any]:
    """One request, checked, with defaults."""
    known = ", ".join(DEFAULTS)
    if isinstance(model_input, pd.DataFrame):
        if len(model_input) != 1:
            raise ValueError(f"ask for one set of images, one row with some of {known}; got {len(model_input)} rows")
        model_input = {name: model_input[name].iloc[0] for name in model_input}  # a row would make whole numbers float
    if unknown := sorted(set(model_input) - set(DEFAULTS)):
        raise ValueError(f"unknown: {', '.join(unknown)}; known: {known}")
    asked = DEFAULTS | {name: value for name, value in model_input.items() if not pd.isna(value)}
    for name, value in asked.items():
        if value is not None and name != "sampler":
            asked[name] = _number(name, value)
    if asked["count"] < 1 or asked["steps"] < 1:
        raise ValueError(f"count and steps must be at least 1, got {asked['count']} and {asked['steps']}")
    return asked


def _number(name: str, value: Any) -> float:
    """`guidance` may be any number, the others whole ones."""
    if not isinstance(value, int | float | np.integer | np.floating):
        raise ValueError(f"{name} must be a number, got {value!r}")
    if name == "guidance":
        return float(value)
    if not float(value).is_integer():
        raise ValueError(f"{name} must be a whole number, got {value}")
    return int(value)


set_model(ServedModel())
