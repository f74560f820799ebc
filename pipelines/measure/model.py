"""The trained model as the tasks find it: read from its folder once per process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from diffusion.models.saved import SavedModel, load_model
from diffusion.models.saved_classifier import SavedClassifier, load_classifier
from pipelines.depot.shared import SharedFolder, share
from pipelines.errors import CheckpointError
from pipelines.settings import Settings

Weights = Literal["ema", "raw"]

_MODEL = ("model.json", "model.safetensors")
_CLASSIFIER = ("classifier.json", "classifier.safetensors")


@dataclass(frozen=True)
class ModelRef:
    """Names one model: small enough to travel with every task, strict enough that no task takes another."""

    folder: SharedFolder
    weights: Weights
    digest: str
    """Content digest of the model that was found when the stage began."""
    device: str
    """`cpu` or `cuda`."""

    def open(self) -> SavedModel:
        """The model where tasks compute; loaded at the first call in this process.

        Raises:
            CheckpointError: it is missing, damaged, or not the one that the stage began with.
            DataError, StoreError: it is not on this machine and cannot be brought here.
        """
        return _opened(self)

    def on_cpu(self) -> SavedModel:
        """The same for the stage itself, which hands out tasks and may run where there is no GPU."""
        return replace(self, device="cpu").open()

    def shared(self, settings: Settings) -> ModelRef:
        """The same for tasks on all machines of the cluster.

        Raises:
            DataError, StoreError: the model cannot be put where they have it from.
        """
        return replace(self, folder=share(self.folder.path, _MODEL, settings))


def find_model(folder: Path, weights: Weights, device: str = "cpu") -> ModelRef:
    """Name the model in `folder`, after reading and verifying it.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    return ModelRef(SharedFolder(folder), weights, _load(folder, weights, "cpu").digest, device)


@dataclass(frozen=True)
class ClassifierRef:
    """Names the classifier that guides, likewise."""

    folder: SharedFolder
    digest: str
    device: str

    def open(self) -> SavedClassifier:
        """The classifier where tasks compute; loaded at the first call in this process.

        Raises:
            CheckpointError: it is missing, damaged, or not the one that the stage began with.
        """
        return _opened_classifier(self)

    def on_cpu(self) -> SavedClassifier:
        """The same for the stage itself."""
        return replace(self, device="cpu").open()

    def shared(self, settings: Settings) -> ClassifierRef:
        """The same for tasks on all machines of the cluster, as a model."""
        return replace(self, folder=share(self.folder.path, _CLASSIFIER, settings))


def find_classifier(folder: Path, device: str = "cpu") -> ClassifierRef:
    """Name the classifier in `folder`, after reading and verifying it.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    return ClassifierRef(SharedFolder(folder), _load_classifier(folder, "cpu").digest, device)


def device_of(settings: Settings) -> str:
    """Where tasks compute: on the GPU if workers are given one."""
    return "cuda" if settings.ray.gpus_per_worker > 0 else "cpu"


@lru_cache(maxsize=2)
def _opened(ref: ModelRef) -> SavedModel:
    saved = _load(ref.folder.here(), ref.weights, ref.device)
    _check_same(ref, saved.digest)
    return saved


@lru_cache(maxsize=2)
def _opened_classifier(ref: ClassifierRef) -> SavedClassifier:
    saved = _load_classifier(ref.folder.here(), ref.device)
    _check_same(ref, saved.digest)
    return saved


def _check_same(ref: ModelRef | ClassifierRef, found: str) -> None:
    if found != ref.digest:
        raise CheckpointError(
            f"the model in {ref.folder.path} was replaced while it was in use: its digest is {found[:12]}.., "
            f"wanted {ref.digest[:12]}..; run the stage again"
        )


def _load(folder: Path, weights: Weights, device: str) -> SavedModel:
    try:
        return load_model(folder, weights, device)
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def _load_classifier(folder: Path, device: str) -> SavedClassifier:
    try:
        return load_classifier(folder, device)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
