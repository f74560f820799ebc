"""A copy of this project in a temporary folder, and the commands a person types in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

TINY = {
    "process.T": "20",
    "model.channels": "8",
    "model.channel_multipliers": "[1]",
    "model.attention_resolutions": "[]",
    "train.steps": "20",
    "train.batch_size": "32",
    "train.virtual_shards": "4",
    "train.warmup_steps": "5",
    "train.val_every": "10",
    "train.val_images": "16",
    "train.val_calls": "5",
    "train.log_every": "5",
    "reference.steps": "20",
    "reference.features": "8",
    "sample.count": "32",
    "sample.steps": "10",
    "sample.batch_size": "16",
    "evaluate.images": "24",
    "evaluate.batch_size": "64",
}
"""The digits job, made so small that the whole graph is a minute, most of it the start of Ray and MLflow."""


@dataclass(frozen=True)
class Project:
    """A clone with its own .state, and this interpreter's environment on PATH."""

    folder: Path

    @classmethod
    def clone(cls, folder: Path) -> Project:
        """Every file that git tracks or would track, committed in a fresh repository."""
        listed = _git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
        for name in listed:
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        project = cls(folder)
        _git(folder, "init", "-q", "-b", "main")
        project.commit("the project")
        return project

    def commit(self, message: str) -> None:
        """Commit everything."""
        _git(self.folder, "add", "-A")
        identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
        _git(self.folder, *identity, "commit", "-qm", message)

    def set(self, **values: str) -> None:
        """Set parameters, named `train__steps` for train.steps, leaving the rest of the file as it is."""
        from ruamel.yaml import YAML

        yaml, path = YAML(), self.folder / "params.yaml"
        content = yaml.load(path.read_text())
        for name, value in values.items():
            *sections, key = name.replace("__", ".").split(".")
            at = content
            for section in sections:
                at = at[section]
            at[key] = YAML(typ="safe").load(value)
        with path.open("w") as file:
            yaml.dump(content, file)

    def environment(self) -> dict[str, str]:
        """The caller's, with this interpreter first on PATH and nothing that points at another cluster or server."""
        left_out = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "DVC_ROOT")
        kept = {name: value for name, value in os.environ.items() if name not in left_out}
        return kept | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "PIPELINES__CHECKPOINT__EVERY_STEPS": "5",
        }

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """A command in the project's folder, in a process group of its own."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment() | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, status: int = 0, **environment: str) -> Output:
        """Run a command to its end and check its exit status."""
        began = time.monotonic()
        process = self.start(*command, **environment)
        text, _ = process.communicate(timeout=500)
        assert process.returncode == status, f"{' '.join(command)} exited {process.returncode}:\n{text}"
        return Output(text, time.monotonic() - began)

    def python(self, *arguments: str, status: int = 0, **environment: str) -> Output:
        """`python ...` in the project."""
        return self.run("python", *arguments, status=status, **environment)

    def json(self, name: str) -> Any:
        """A JSON file below the project."""
        return json.loads((self.folder / name).read_text())


@dataclass(frozen=True)
class Output:
    """What a command printed, and how long it took."""

    text: str
    seconds: float

    @property
    def stages(self) -> list[str]:
        """The stages that DVC ran."""
        return re.findall(r"Running stage '(\w+)'", self.text)


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout
