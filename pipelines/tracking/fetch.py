"""From the name of a model to its files: a folder, or a version in the registry."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipelines.errors import CheckpointError, TrackingError
from pipelines.settings import Settings
from pipelines.tracking.intact import content_of
from pipelines.tracking.registry import Version, versions
from pipelines.tracking.store import connect, quiet_mlflow, tracking_errors

DESCRIPTION = "model.json"

_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<number>\d+)|(?P<alias>@[^/@]+))")


@dataclass(frozen=True)
class ModelFiles:
    """A model's folder on this machine."""

    path: Path
    weights: Literal["ema", "raw"]
    """Those that a version was evaluated and registered with; of a folder the average."""


@contextmanager
def model_files(text: str, settings: Settings) -> Iterator[ModelFiles]:
    """The model that `text` names, for the length of the block.

    Args:
        text: a folder with model.json, or `models:/NAME/VERSION` or `models:/NAME@ALIAS` of the registry.

    Raises:
        CheckpointError: there is no model in the folder; the version's is damaged or not what was registered.
        TrackingError: there is no such version, or the registry or its artifacts do not answer.
    """
    if not text.startswith("models:"):
        folder = Path(text).expanduser()
        if not (folder / DESCRIPTION).is_file():
            raise CheckpointError(
                f"no model in {folder}: {DESCRIPTION} is missing. Name a folder with a trained model (run `dvc repro "
                "train`), or a registered version as models:/NAME/VERSION or models:/NAME@ALIAS"
            )
        yield ModelFiles(folder, "ema")
        return
    name, which = named(text, "")
    version = chosen(known_versions(settings, name), which, name)
    mlflow = quiet_mlflow(settings)
    with tempfile.TemporaryDirectory() as scratch:
        with tracking_errors(settings):
            mlflow.artifacts.download_artifacts(f"models:/{name}/{version.number}", dst_path=scratch)
        found = sorted(Path(scratch).rglob(DESCRIPTION))
        if not found:
            raise TrackingError(f"version {version.number} of {name} holds no {DESCRIPTION}: it is not one of ours")
        _check_model(version, found[0].parent)
        yield ModelFiles(found[0].parent, "raw" if version.weights == "raw" else "ema")


def find_versions(texts: Sequence[str], name: str, settings: Settings) -> list[Version]:
    """The versions asked for, each once: numbers and @aliases of the model `name`, or models:/NAME/VERSION of any.

    Raises:
        TrackingError: one does not exist, or the registry does not answer.
    """
    known: dict[str, list[Version]] = {}
    found: dict[tuple[str, int], Version] = {}
    for text in texts:
        of, which = named(text, name)
        if of not in known:
            known[of] = known_versions(settings, of)
        version = chosen(known[of], which, of)
        found[of, version.number] = version
    return list(found.values())


def named(text: str, name: str) -> tuple[str, str]:
    """The model and the number or @alias that are meant: of `name`, or of another as models:/NAME/VERSION says.

    Raises:
        TrackingError: it is written otherwise.
    """
    if (match := _URI.fullmatch(text)) is not None:
        return match["name"], match["number"] or match["alias"]
    if ":" in text:
        raise TrackingError(f"a registered version is written models:/NAME/VERSION or models:/NAME@ALIAS, got {text}")
    return name, text


def _check_model(version: Version, folder: Path) -> None:
    """Refuse files that are damaged, or whole but another model than the version was registered as.

    The digest is computed from the tensors: a model.json can be written anew beside other weights, the registry's tag
    cannot be from there.
    """
    if (found := content_of(folder)) != version.model_digest:
        raise CheckpointError(
            f"version {version.number} of {version.name} holds another model than was registered: its digest is "
            f"{found[:12]}.., the version's tag model.digest is {version.model_digest[:12] or 'missing'}; register it "
            "again from its results"
        )


def known_versions(settings: Settings, name: str) -> list[Version]:
    """All versions of the model, oldest first.

    Raises:
        TrackingError: there are none; the message lists the models that there are. Or the registry does not answer.
    """
    store = connect(settings, name, make=False)
    with tracking_errors(settings):
        known = versions(store, name)
        others = [] if known else sorted(model.name for model in store.client.search_registered_models())
    if not known:
        there = f"it has {', '.join(others)}; name one with --name" if others else "it is empty: run `dvc repro`"
        raise TrackingError(f"the registry has no versions of {name}; {there}")
    return known


def chosen(known: list[Version], text: str, name: str) -> Version:
    """The version asked for by number or @alias.

    Raises:
        TrackingError: it does not exist; the message lists those that do.
    """
    names = {str(v.number): v for v in known} | {f"@{alias}": v for v in known for alias in v.aliases}
    if text not in names:
        raise TrackingError(f"{name} has no version {text}; there are {', '.join(names)}")
    return names[text]
