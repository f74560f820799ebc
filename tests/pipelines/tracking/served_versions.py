"""Models in a registry of the test's own, without the numbers that the register stage puts beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusion.models.description import Description
from pipelines.settings import Settings
from pipelines.tracking.model import log_model
from pipelines.tracking.store import connect, quiet_mlflow

NAME = "toy"


def registered(settings: Settings, model: Path, weights: str = "ema") -> Path:
    """Make the model in this folder a version of `toy`, and champion; the version's own folder in the store."""
    store, mlflow = connect(settings, NAME), quiet_mlflow(settings)
    run_id = store.client.create_run(store.experiment_id).info.run_id
    logged = log_model(mlflow, run_id, model, weights)
    if not store.client.search_registered_models(f"name='{NAME}'"):
        store.client.create_registered_model(NAME)
    tags = {"model.digest": Description.read(model).digests.content, "weights": weights}
    made = store.client.create_model_version(
        NAME, logged.artifact_location, run_id, tags=tags, model_id=logged.model_id
    )
    store.client.set_registered_model_alias(NAME, "champion", made.version)
    return Path(logged.artifact_location.removeprefix("file://"))


def loaded(settings: Settings, uri: str = f"models:/{NAME}@champion") -> Any:
    """As anyone loads a version."""
    return quiet_mlflow(settings).pyfunc.load_model(uri)
