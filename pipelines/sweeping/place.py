"""A trial's folder: a copy of the project with the trial's parameters, its log, and its outcome once it is there."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.project import workspace
from pipelines.reproduction.checkout import clone
from pipelines.reproduction.here import raw_digest
from pipelines.runs.digest import digest, sha256_hex
from pipelines.runs.source import source_digest
from pipelines.settings import Settings
from pipelines.sweeping.space import Trial
from pipelines.tracking.changes import changed_names
from pipelines.tracking.git import asked
from pipelines.tracking.origin import CODE, LOCK, PARAMS

_LOG_TAIL = 15


@dataclass(frozen=True)
class Outcome:
    """What a trial that went through left."""

    name: str
    """Of the registered model."""
    version: int

    @property
    def uri(self) -> str:
        """How every command takes it."""
        return f"models:/{self.name}/{self.version}"


@dataclass(frozen=True)
class Place:
    """Below the sweep's folder; named by all that its outcome depends on, so that the same trial is found again."""

    folder: Path

    @property
    def project(self) -> Path:
        """The copy."""
        return self.folder / "project"

    @property
    def log(self) -> Path:
        """All that its stages printed, of all attempts."""
        return self.folder / "log.txt"

    @property
    def outcome(self) -> Outcome | None:
        """None until it went through."""
        path = self.folder / "outcome.json"
        return Outcome(**json.loads(path.read_text())) if path.exists() else None

    @property
    def lock(self) -> Path:
        """Held by the keeper of its `dvc repro`."""
        return self.folder / "lock"

    def at_rest(self) -> bool:
        """Whether nothing runs in it."""
        with self.lock.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def tail(self) -> str:
        """The last lines of the log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-_LOG_TAIL:])

    def finish(self) -> None:
        """Keep which version the copy's register stage made."""
        receipt = json.loads((self.project / "results/register/receipt.json").read_text())
        fresh = self.folder / "outcome.json.new"
        fresh.write_text(json.dumps(asdict(Outcome(receipt["name"], receipt["version"]))))
        fresh.replace(self.folder / "outcome.json")

    def forget(self) -> None:
        """It is not finished: the version is gone."""
        (self.folder / "outcome.json").unlink(missing_ok=True)

    def prepare(self, trial: Trial, source: Path, cache: str) -> None:
        """Make the copy, anew so that nothing in it is of an earlier state of the project; leave it where a run still
        stops. What its stages have made is in DVC's cache, and a training's checkpoints are in the project.

        Args:
            source: the project: its commit, with all that is changed in it.
            cache: of DVC, shared by all.

        Raises:
            PipelineError: `source` is in no git repository.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.at_rest():
            return
        making = self.folder / "project.new"
        shutil.rmtree(making, ignore_errors=True)
        clone(source, making, asked(source, "rev-parse", "HEAD") or "HEAD")
        for name in (*changed_names(source), LOCK):
            _bring(source / name, making / name)
        (making / ".dvc/config.local").write_text(f"[cache]\n    dir = {cache}\n")
        _set(making / PARAMS, trial.values)
        data = Path(trial.params.data.path)
        if not data.is_absolute() and not (making / data).exists():
            (making / data).parent.mkdir(parents=True, exist_ok=True)
            (making / data).symlink_to((source / data).resolve())
        shutil.rmtree(self.project, ignore_errors=True)
        making.rename(self.project)


def places_of(trials: Sequence[Trial], sweep: Path, settings: Settings) -> list[Place]:
    """The places of a sweep's trials: other ones where code, stages, raw images or registry are not what they were."""
    project = workspace()
    shared = {
        "code": source_digest([project / name for name in CODE]),
        "stages": sha256_hex((project / "dvc.yaml").read_bytes()),
        "registry": settings.tracking.uri,
    }
    folders = {trial.params.data.path for trial in trials if trial.params.data.source == "folder"}
    images = {path: raw_digest(project, project / path) for path in folders if (project / path).exists()}
    places = []
    for trial in trials:
        params = trial.params.model_dump(mode="json", by_alias=True)
        name = digest({"params": params, "images": images.get(trial.params.data.path), **shared})
        places.append(Place(sweep / name[:12]))
    return places


def _bring(path: Path, to: Path) -> None:
    """A changed or new file; one that was deleted is deleted."""
    if path.is_file():
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, to)
    elif not path.exists():
        to.unlink(missing_ok=True)


def _set(path: Path, values: dict[str, Any]) -> None:
    """Change values in params.yaml, leaving its comments."""
    from ruamel.yaml import YAML

    yaml = YAML()
    content = yaml.load(path.read_text())
    for name, value in values.items():
        *sections, key = name.split(".")
        at = content
        for section in sections:
            at = at.setdefault(section, {})
        at[key] = value
    yaml.representer.add_representer(type(None), lambda to, _: to.represent_scalar("tag:yaml.org,2002:null", "null"))
    with path.open("w") as file:
        yaml.dump(content, file)
