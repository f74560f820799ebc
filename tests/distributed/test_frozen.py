"""One of two workers is frozen in its step: the other one waits for it, and is not to blame. They are in frozen.py."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """By mode: who hangs, who stands still, and where the worker was that is not frozen."""
    folder = tmp_path_factory.mktemp("frozen")
    command = [sys.executable, str(Path(__file__).with_name("frozen.py")), str(folder)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads((folder / "found.json").read_text()))


@pytest.mark.parametrize(
    ("mode", "place"),
    [
        ("strict", "exchange (diffusion/training/messages.py"),
        ("overlapped", "backward (diffusion/training/overlap.py"),
        ("fast", "__call__ (diffusion/training/reduction.py"),
    ],
)
def test_the_worker_that_waits_for_a_frozen_one_is_in_a_meeting(found: dict[str, Any], mode: str, place: str) -> None:
    assert found[mode]["stuck"] == {"0": True, "1": True}
    assert found[mode]["hangs"] == [1]
    assert found[mode]["other"]["doing"].startswith(place)
    assert found[mode]["other"]["waiting"]
