"""Jobs made of a few lines of Python, and a Kubernetes for jobs of its own."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.backends.backend import Backend, State, Submission
from pipelines.backends.kuberay import KubeRay
from pipelines.settings import JobSettings
from tests.pipelines.backends.kubernetes import Cluster, serve

Make = Callable[..., Submission]

WAITS = """
import os, pathlib, signal, sys, time
def stop(*_):
    print("saved", flush=True)
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
pathlib.Path("begun").write_text(str(os.getpid()))
print("begun", flush=True)
time.sleep(60)
"""
"""A program that saves when it is asked to stop."""


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes down a job: its name, its program, and variables of its environment."""

    def make(name: str, program: str = "", **environment: str) -> Submission:
        code = tmp_path / "code of" / name
        (code / "pipelines").mkdir(parents=True)
        (code / "pipelines" / "work.py").write_text(program)
        return Submission(name, ("python", "-m", "pipelines.work", "a b", "$HOME"), code, environment)

    return make


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """An empty one, to which kubectl is led."""
    cluster = Cluster("diffusion")
    with serve(cluster, tmp_path) as (config, _):
        monkeypatch.setenv("KUBECONFIG", str(config))
        monkeypatch.setenv("HOME", str(tmp_path))  # where kubectl keeps what it has discovered
        yield cluster


@pytest.fixture(scope="module")
def rendered() -> KubeRay:
    """Jobs of the usual kustomization."""
    backend = KubeRay(JobSettings().overlay)
    assert backend._template  # rendered once for all tests
    return backend


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait for it."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it did not come within {seconds} s"
        time.sleep(0.02)


def begun(folder: Path, name: str) -> int:
    """The number of the process of a job that waits, once it has begun."""
    path = folder / name / "code" / "begun"
    until(lambda: path.exists() and path.read_text())
    return int(path.read_text())


def end_of(backend: Backend, name: str, seconds: float = 20) -> tuple[State, str]:
    """How a job ends, and what is said of it."""
    until(lambda: backend.status(name).state.ended, seconds)
    status = backend.status(name)
    return status.state, status.message
