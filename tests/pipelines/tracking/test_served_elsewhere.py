"""A registered version where this repository is not: in an environment of its requirements alone, and behind HTTP."""

from __future__ import annotations

import importlib.util
import json
import os
import py_compile
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffusion.drawing import Recipe, draw
from diffusion.models.saved import load_model
from pipelines.settings import tracking_uri
from tests.pipelines.conftest import Workplace
from tests.pipelines.stage_inputs import saved_model
from tests.pipelines.tracking.served_versions import registered

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ASKED = {"count": 3, "seed": 5, "sampler": "ddim", "steps": 4, "class": 1}
SCRIPT = """
import importlib.util, json, sys, warnings
assert importlib.util.find_spec("pipelines") is None and importlib.util.find_spec("diffusion") is None
import mlflow.pyfunc, torch
torch.set_num_threads(1)
warnings.simplefilter("error")
warnings.filterwarnings("ignore", message="The ``noload`` loader strategy")
model = mlflow.pyfunc.load_model("models:/toy@champion")
import diffusion
print(json.dumps({"images": model.predict(json.loads(sys.argv[1])).tolist(), "code": diffusion.__file__}))
"""


@pytest.fixture
def wanted(workplace: Workplace, tmp_path: Path) -> tuple[Path, list[Any]]:
    """The version's folder, and the images that it is to draw, drawn here on one thread."""
    model = saved_model(tmp_path / "model", classes=3)
    code = (
        "import json, sys, torch; torch.set_num_threads(1); from pathlib import Path;"
        "from tests.pipelines.tracking.test_served_elsewhere import drawn; print(json.dumps(drawn(Path(sys.argv[1]))))"
    )
    answer = subprocess.run([sys.executable, "-c", code, model], capture_output=True, text=True, check=True)
    return registered(workplace.settings, model), json.loads(answer.stdout)


def drawn(model: Path) -> list[Any]:
    images = draw(load_model(model), Recipe("ddim", 4), 5, range(3), label=1).images
    return np.rint(images.transpose(0, 2, 3, 1) * (255 / 16)).astype(np.uint8).tolist()  # type: ignore[no-any-return]


def outside(workplace: Workplace) -> dict[str, str]:
    """An environment in which nothing leads to this repository."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return kept | {"MLFLOW_TRACKING_URI": tracking_uri(workplace.settings), "MLFLOW_DISABLE_TELEMETRY": "true"}


def said_outside(workplace: Workplace, folder: Path, *command: str | Path) -> str:
    """What a command prints there, in a folder; it must end well."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=outside(workplace), check=False)
    assert not done.returncode, done.stderr
    return done.stdout


def test_an_environment_of_its_requirements_alone(
    workplace: Workplace, wanted: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    version, images = wanted
    environment = tmp_path / "environment"
    subprocess.run(["uv", "venv", "-q", "--python", sys.executable, environment], check=True)
    install = ["uv", "pip", "install", "-q", "--python", environment / "bin/python", "-r", version / "requirements.txt"]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode and re.search(r"(?i)failed to fetch|connect|resolve host|dns|timed out", done.stderr):
        pytest.skip(f"no package registry can be reached from here: {done.stderr.strip().splitlines()[-1]}")
    assert not done.returncode, done.stderr
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    answer = said_outside(workplace, elsewhere, environment / "bin/python", "-c", SCRIPT, json.dumps(ASKED))
    found = json.loads(answer.splitlines()[-1])
    assert found["images"] == images
    assert Path(found["code"]).parts[-3:] == ("code", "diffusion", "__init__.py")


def test_compiled_code_beside_the_code_does_not_run(workplace: Workplace, tmp_path: Path) -> None:
    """Python would take it unread. What Python itself then leaves there keeps nobody from loading the version again."""
    version = registered(workplace.settings, saved_model(tmp_path / "model"))
    source, evil = version / "code/diffusion/models/ema.py", tmp_path / "evil.py"
    evil.write_text("raise SystemExit('evil')")
    compiled = Path(importlib.util.cache_from_source(str(source)))
    py_compile.compile(str(evil), str(compiled), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    code = (
        "import mlflow; mlflow.pyfunc.load_model('models:/toy@champion'); import diffusion; print(diffusion.__file__)"
    )
    for _ in range(2):
        answer = said_outside(workplace, tmp_path, sys.executable, "-c", code)
        assert answer.strip() == str(version / "code/diffusion/__init__.py")
        assert compiled.exists()


@pytest.fixture
def server(workplace: Workplace, wanted: tuple[Path, list[Any]], tmp_path: Path) -> Iterator[str]:
    """`mlflow models serve` on a free port; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (tmp_path / "serving.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", "models:/toy@champion", *where],
            stdout=log,
            stderr=log,
            cwd=tmp_path,
            env=outside(workplace)
            | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
    try:
        _wait(f"http://127.0.0.1:{port}/ping", process, tmp_path / "serving.log")
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        with suppress(OSError), urllib.request.urlopen(address, timeout=5):
            return
        assert process.poll() is None, log.read_text()
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def answer(address: str, content: object) -> tuple[int, Any]:
    """Status and body, as from JSON."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_serving(server: str, wanted: tuple[Path, list[Any]]) -> None:
    _, images = wanted
    names, values = list(ASKED), list(ASKED.values())
    for request in (
        {"dataframe_split": {"columns": names, "data": [values]}},
        {"dataframe_split": {"columns": [*names, "guidance"], "data": [[*values, None]]}},
        {"dataframe_records": [ASKED]},
        {"dataframe_records": [ASKED | {"guidance": None}]},
        {"inputs": ASKED},
        {"inputs": {name: [value] for name, value in ASKED.items()}},
    ):
        assert answer(server, request) == (200, {"predictions": images}), request
    assert np.shape(answer(server, {"inputs": {"count": 2}})[1]["predictions"]) == (2, 8, 8, 1)
    for wrong, message in (
        ({"inputs": {"count": "many"}}, "Invalid input. invalid literal .* 'many'"),
        ({"inputs": {"count": 0}}, "count and steps must be at least 1, got 0 and 100"),
        ({"inputs": {"class": 7}}, r"class 7 was asked for, but the model's classes are 0\.\.2"),
        ({"dataframe_records": [{"sampler": "best"}]}, "sampler must be one of"),
        ({"dataframe_records": [ASKED, ASKED]}, "one row with some of .*; got 2 rows"),
        ({"count": 2}, "dataframe_split"),
        (b"{", "JSON"),
    ):
        status, text = answer(server, wrong)
        assert status == 400, (wrong, text)
        assert re.search(message, text), (wrong, text)
