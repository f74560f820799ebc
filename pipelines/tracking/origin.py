"""What a version came from, as files beside it: params.yaml, dvc.lock, what was not committed, what was installed.

Their SHA-256 are in its tags, so that nobody is handed other ones.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipelines.errors import TrackingError
from pipelines.runs.source import source_digest
from pipelines.settings import Settings
from pipelines.tracking.changes import SEEMS_SECRET, changes, holds_secret
from pipelines.tracking.environment import environment_text
from pipelines.tracking.git import asked
from pipelines.tracking.registry import Version
from pipelines.tracking.store import Store, connect, quiet_mlflow, tracking_errors

PARAMS, LOCK, PATCH, ENVIRONMENT = "params.yaml", "dvc.lock", "changes.patch", "environment.txt"
CODE = ("diffusion", "pipelines")
_TAG = "origin.files"
_LEFT_OUT = "git.left_out"
_NAMED = 20
"""Files that the tag names."""


def pack(project: Path, into: Path) -> dict[str, str]:
    """Put what is kept of the project's state into one folder; the tags that lead back to it.

    Raises:
        PipelineError: git refuses.
    """
    into.mkdir(parents=True)
    (into / ENVIRONMENT).write_text(environment_text())
    tags = {"source.digest": source_digest([Path(__file__).parents[2] / name for name in CODE])}
    left_out = {}
    if asked(project, "rev-parse", "HEAD"):
        differing = changes(project)
        left_out = differing.left_out
        if differing.patch:
            (into / PATCH).write_bytes(differing.patch)
    for name in (PARAMS, LOCK):
        content = (project / name).read_bytes() if (project / name).exists() else None
        if content is not None and holds_secret(name, content):
            left_out[name] = SEEMS_SECRET
        elif content is not None:
            (into / name).write_bytes(content)
    if left_out:
        tags[_LEFT_OUT] = _few(left_out)
    files = {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(into.iterdir())}
    named = {f"{name}.sha256": files.get(file, "") for name, file in ((LOCK, LOCK), ("git.patch", PATCH))}
    return tags | named | {_TAG: json.dumps(files, sort_keys=True)}


def _few(left_out: dict[str, str]) -> str:
    rest = len(left_out) - _NAMED
    more = {f"and {rest} more": ""} if rest > 0 else {}
    return json.dumps(dict(list(left_out.items())[:_NAMED]) | more)


def upload(store: Store, run_id: str, packed: Path, tags: dict[str, str]) -> None:
    """Bring the files to the version's run."""
    store.client.log_artifacts(run_id, str(packed), _place(tags[_TAG]))


def _place(files: str) -> str:
    return f"origin/{sha256(files.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class Origin:
    """Of one version, with its files on this machine."""

    version: Version
    folder: Path

    @property
    def commit(self) -> str:
        """Empty where the project was in no repository."""
        return self.version.tags.get("git.commit", "")

    @property
    def left_out(self) -> dict[str, str]:
        """Files that differed from the commit and were not kept -> why."""
        return dict(json.loads(self.version.tags.get(_LEFT_OUT, "{}")))

    @property
    def data_digest(self) -> str:
        """Of the prepared data."""
        return self.version.tags.get("data.digest", "")

    @property
    def run_key(self) -> str:
        """Of the training."""
        return self.version.tags.get("run.key", "")

    @property
    def patch(self) -> bytes:
        """The changes that were not committed; empty without any."""
        return (self.folder / PATCH).read_bytes() if (self.folder / PATCH).exists() else b""

    @property
    def environment(self) -> list[str]:
        """As `installed()` says it."""
        return (self.folder / ENVIRONMENT).read_text().splitlines()

    @cached_property
    def stages(self) -> dict[str, Any]:
        """Those of dvc.lock; empty where there was none."""
        from pipelines.configuration import read_yaml

        lock = self.folder / LOCK
        return dict(read_yaml(lock)["stages"]) if lock.exists() else {}

    @property
    def raw_digest(self) -> str | None:
        """DVC's digest of what the prepare stage read at `data.path`; None where dvc.lock does not say it."""
        deps = self.stages.get("prepare", {}).get("deps", [])
        path = self.version.params.get("data.path")
        return next((dep.get("md5") for dep in deps if dep["path"] == path), None)


@contextmanager
def origin_of(version: Version, settings: Settings) -> Iterator[Origin]:
    """What the registry keeps of a version's origin, verified, for the length of the block.

    Raises:
        TrackingError: its run was deleted, or the files are gone or are not those that were registered.
    """
    who = f"{version.name} version {version.number}"
    if _TAG not in version.tags:
        raise TrackingError(
            f"{who} was registered before files of its origin were kept; its tags name commit "
            f"{version.tags.get('git.commit', 'none')}, with changes: {version.tags.get('git.dirty', 'unknown')}"
        )
    files: dict[str, str] = json.loads(version.tags[_TAG])
    with tempfile.TemporaryDirectory() as scratch:
        folder = _download(version, who, _place(version.tags[_TAG]), settings, scratch)
        for name, digest in files.items():
            path = folder / name
            if not path.is_file():
                raise TrackingError(f"{name} of {who} is gone from run {version.run_id}: it was deleted there")
            if sha256(path.read_bytes()).hexdigest() != digest:
                raise TrackingError(
                    f"{name} of {who} is not the file that was registered (its SHA-256 differs): somebody changed it "
                    f"in the artifacts of run {version.run_id}; nothing of it is used"
                )
        yield Origin(version, folder)


def _download(version: Version, who: str, place: str, settings: Settings, scratch: str) -> Path:
    from mlflow.exceptions import MlflowException

    client = connect(settings, version.name, make=False).client
    with tracking_errors(settings):
        try:
            stage = client.get_run(version.run_id).info.lifecycle_stage
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise TrackingError(
                f"run {version.run_id} of {who} is gone for good, and the files of its origin with it"
            ) from None
    if stage != "active":
        raise TrackingError(
            f"run {version.run_id} of {who} was deleted: `mlflow runs restore --run-id {version.run_id}` brings it back"
        )
    mlflow = quiet_mlflow(settings)
    with tracking_errors(settings):
        return Path(mlflow.artifacts.download_artifacts(run_id=version.run_id, artifact_path=place, dst_path=scratch))
