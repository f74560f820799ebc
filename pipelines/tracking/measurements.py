"""The measurements of a registered version: numbers in its tags, tables and samples among its run's artifacts.

A version may be measured more than once, in different ways. Each measurement is named by the SHA-256 of its
metrics.json. Its files come first and its tag last: without the tag it is not there.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.comparison.measurement import Measurement
from pipelines.errors import TrackingError
from pipelines.project import state
from pipelines.runs.digest import digest as digest_of
from pipelines.settings import Settings
from pipelines.tracking.registry import Version
from pipelines.tracking.store import Store, quiet_mlflow, tracking_errors
from pipelines.tracking.took import total

METRICS = "metrics.json"
SAMPLES = "samples.npy"
SHOWN = 64
"""Samples that are kept with a measurement: the first ones, uint8 (64, C, H, W) in 0..levels-1."""
PER_IMAGE = "per_image.parquet"
_TABLES = (PER_IMAGE, "per_timestep.parquet", "bound_shares.csv")
_TAG = "measurement."
_NAMED = re.compile(r"measurement\.(?P<digest>[0-9a-f]{64})")
"""Other tags that begin like that are not ours; the digest becomes the name of a folder."""


def pack(evaluated: Path, samples: Path, into: Path) -> dict[str, str]:
    """Put what is kept of an evaluation into one folder; the tag that makes it a measurement, as name -> value.

    Args:
        evaluated: as the evaluate stage leaves it.
        samples: as the sample stage leaves them.
    """
    into.mkdir(parents=True)
    for name in (METRICS, *_TABLES):
        shutil.copy2(evaluated / name, into / name)
    images = np.load(samples / SAMPLES, mmap_mode="r", allow_pickle=False)
    with (into / SAMPLES).open("wb") as file:
        np.save(file, np.array(images[:SHOWN]), allow_pickle=False)
    content = (into / METRICS).read_bytes()
    files = {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(into.iterdir())}
    drawn = total("sample", digest_of(json.loads((samples / "samples.json").read_text())))
    value = {"metrics": json.loads(content), "files": files, "sampling": drawn}
    return {_TAG + sha256(content).hexdigest(): json.dumps(value, sort_keys=True)}


def upload(store: Store, run_id: str, packed: Path, tag: dict[str, str]) -> None:
    """Bring the files of a measurement to the version's run."""
    (name,) = tag
    store.client.log_artifacts(run_id, str(packed), _place(name.removeprefix(_TAG)))


def measurements(version: Version, settings: Settings) -> list[Measurement]:
    """All measurements of a version, newest first."""
    found = []
    for name in version.tags:
        value = version.read(name)
        if (match := _NAMED.fullmatch(name)) and "metrics" in value:
            fetch = partial(_fetch, version, match["digest"], value.get("files", {}), settings)
            when_ms = value.get("when_ms", version.created_ms)
            found.append(Measurement(match["digest"], value["metrics"], when_ms, fetch, value.get("sampling", {})))
    return sorted(found, key=lambda measurement: -measurement.when_ms)


def stamped(tag: dict[str, str], when_ms: int) -> dict[str, str]:
    """The tag of a measurement that was made after its version."""
    return {name: json.dumps({**json.loads(text), "when_ms": when_ms}, sort_keys=True) for name, text in tag.items()}


def has(version: Version, tag: dict[str, str]) -> bool:
    """Whether the version has this very measurement."""
    return all(name in version.tags for name in tag)


def _place(digest: str) -> str:
    return f"measurements/{digest[:16]}"


def _fetch(version: Version, digest: str, files: dict[str, str], settings: Settings) -> Path:
    """The files of a measurement on this machine, verified; kept for the next time.

    Raises:
        TrackingError: they are gone, or are not those that were registered.
    """
    kept = state() / "registry" / digest[:32]
    if not _intact(kept, files):
        kept.parent.mkdir(exist_ok=True)
        mlflow = quiet_mlflow(settings)
        with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
            what = f"the files of measurement {digest[:12]} of {version.name} version {version.number}"
            remedy = f"run `python -m pipelines.remeasure {version.uri}`"
            try:
                with tracking_errors(settings):
                    arrived = _download(mlflow, version, digest, scratch)
            except TrackingError as error:
                raise TrackingError(f"{what} cannot be had: {error}; if they are gone, {remedy}") from error
            if not _intact(arrived, files):
                raise TrackingError(f"{what} are gone or changed since they were registered: {remedy}")
            shutil.rmtree(kept, ignore_errors=True)
            with suppress(OSError):  # another process has brought them there
                arrived.rename(kept)
    if not _intact(kept, files):
        raise TrackingError(f"{kept} is written by another process: try again")
    return kept


def _download(mlflow: Any, version: Version, digest: str, scratch: str) -> Path:
    return Path(
        mlflow.artifacts.download_artifacts(run_id=version.run_id, artifact_path=_place(digest), dst_path=scratch)
    )


def _intact(folder: Path, files: dict[str, str]) -> bool:
    return PER_IMAGE in files and all(
        (folder / name).is_file() and sha256((folder / name).read_bytes()).hexdigest() == digest
        for name, digest in files.items()
    )
