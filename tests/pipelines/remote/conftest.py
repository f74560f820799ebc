"""A project whose stage `reference` is a small errand, sent elsewhere and brought back by the real commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from pipelines.project import workspace
from pipelines.remote.pack import code_names

ERRAND = '''
"""Counts to ten and leaves a file."""


def main() -> None:
    import os
    import signal
    import time
    from pathlib import Path

    from pipelines.errors import DataError, Interrupted
    from pipelines.project import results
    from pipelines.report.progress import progress
    from pipelines.stage import outputs

    def stop(number, frame):
        raise Interrupted("saved")

    signal.signal(signal.SIGTERM, stop)
    how = os.environ.get("ERRAND", "")
    print(f"the errand begins: {(results('prepare') / 'data').read_text()}", flush=True)
    with progress("counting", 10, "sheep") as bar:
        for done in range(1, 11):
            bar.update(done)
            if how == "stands still":
                time.sleep(600)
            if how == "slow":
                wait_for = Path(os.environ["ERRAND_GO"])
                while not wait_for.exists():
                    time.sleep(0.05)
    if how == "fails":
        raise DataError("no sheep")
    with outputs(results("reference")) as folder:
        (folder / "sheep").write_text("ten")
    print("the errand is done")


if __name__ == "__main__":
    from pipelines.remote.stage import run_stage

    run_stage(main)
'''


@dataclass
class Client:
    """One who runs the stage."""

    process: subprocess.Popen[str]
    file: Path

    @property
    def text(self) -> str:
        """All that it has printed."""
        return self.file.read_text()

    def wait(self) -> int:
        """Its exit status."""
        return self.process.wait(60)


@dataclass
class Errands:
    """The project."""

    folder: Path
    clients: list[Client] = field(default_factory=list)

    def begin(self, how: str = "", **environment: str) -> Client:
        """Run the stage."""
        return self.start(["pipelines.reference"], self.environment(how) | environment)

    def start(self, words: list[str], environment: dict[str, str]) -> Client:
        """Run a module with its arguments."""
        file = self.folder.parent / f"client-{len(self.clients)}.txt"
        with file.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=self.folder,
                env=environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
            )
        self.clients.append(Client(process, file))
        return self.clients[-1]

    def run(self, how: str = "", status: int = 0, **environment: str) -> str:
        """Run it to its end; what it printed."""
        client = self.begin(how, **environment)
        assert client.wait() == status, client.text
        return client.text

    def command(self, *arguments: str) -> str:
        """What `python -m pipelines.jobs` prints."""
        command = [sys.executable, "-m", "pipelines.jobs", *arguments]
        environment = self.environment("") | {"COLUMNS": "120"}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout + done.stderr

    def environment(self, how: str) -> dict[str, str]:
        """Of a client, and so of jobs on this machine."""
        kept = {k: v for k, v in os.environ.items() if k not in ("DVC_ROOT", "RAY_ADDRESS", "PYTHONPATH")}
        return kept | {
            "PIPELINES__JOBS__BACKEND": "local",
            "PIPELINES_CACHE": str(self.folder.parent / "cache"),
            "ERRAND": how,
            "ERRAND_GO": str(self.folder.parent / "go"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def let_go(self) -> None:
        """Slow errands end."""
        (self.folder.parent / "go").touch()

    @property
    def output(self) -> Path:
        """What the stage leaves."""
        return self.folder / "results/reference/sheep"

    @property
    def jobs(self) -> list[Path]:
        """Those that were started."""
        return sorted((self.folder / ".state/jobs/local").glob("*"))

    def processes(self) -> list[psutil.Process]:
        """Of all jobs, known by the depot that their command names."""
        depot = str(self.folder / ".state/runs/depot")
        return [p for p in psutil.process_iter(["cmdline"]) if depot in (p.info["cmdline"] or [])]

    def running(self) -> None:
        """Wait until a job counts."""
        until(
            lambda: any("counting" in log.read_text() for log in self.folder.glob(".state/jobs/local/*/log.txt")), self
        )


def until(there: Callable[[], bool], errands: Errands) -> None:
    """Wait for what must come within a minute: that a job was killed is seen after ten seconds."""
    end = time.monotonic() + 60
    while not there():
        assert time.monotonic() < end, "\n".join(client.text for client in errands.clients)
        time.sleep(0.05)


@pytest.fixture(scope="session")
def errand_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its files."""
    folder = tmp_path_factory.mktemp("errand") / "project"
    for name in (*code_names(), "dvc.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(workspace() / name, folder / name)
    (folder / "pipelines/reference.py").write_text(ERRAND)
    (folder / "results/prepare").mkdir(parents=True)
    (folder / "results/prepare/data").write_text("a meadow")
    return folder


@pytest.fixture
def errands(errand_project: Path, tmp_path: Path) -> Iterator[Errands]:
    """One project, whose processes are ended."""
    errands = Errands(Path(shutil.copytree(errand_project, tmp_path / "project")))
    yield errands
    for process in (*errands.processes(), *(client.process for client in errands.clients)):
        process.kill()
    for client in errands.clients:
        client.process.wait()
