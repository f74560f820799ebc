"""Jobs on a real Ray cluster, through its job server."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from zipfile import ZipFile

import psutil
import pytest

from pipelines import submit
from pipelines.backends import ray_jobs
from pipelines.backends.backend import AlreadyThere, State, Submission, Unreachable
from pipelines.backends.ray_jobs import RayJobs
from pipelines.cluster.code import code_here
from pipelines.depot.address import depot_of
from pipelines.project import workspace
from pipelines.remote.request import Answer
from pipelines.remote.work import Work
from pipelines.settings import JobSettings, RaySettings, Settings, StorageSettings, TrackingSettings
from tests.distributed.test_gauges import free_ports, wait_for
from tests.pipelines.backends.conftest import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning"),  # inside Ray
]

TOKEN = "b" * 32


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a cluster that wants a token."""
    port, dashboard, agent = free_ports(3)  # the agent's usual one may be another cluster's
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0"}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "RAY_JOB_STOP_WAIT_TIME_S": "30"}
    head = ["ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=1"]
    head += [f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    head += ["--object-store-memory=80000000"]
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as short:
        log = Path(short).with_suffix(".log")
        with log.open("w") as out:
            head += [f"--temp-dir={short}"]
            process = subprocess.Popen(head, env=environment, stdout=out, stderr=out, start_new_session=True)
        try:
            wait_for(lambda: _answers(f"http://127.0.0.1:{dashboard}/api/version"))
            yield f"http://127.0.0.1:{dashboard}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            log.unlink()


def _answers(url: str) -> None:
    try:
        urllib.request.urlopen(url, timeout=5)
    except HTTPError as error:
        if error.code != 401:
            raise


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray reads it once for a process."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)


@pytest.fixture
def backend(address: str) -> RayJobs:
    """Of one who knows the token."""
    return RayJobs(address)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A folder with one module."""
    (tmp_path / "errand.py").write_text(
        "import os, signal, sys, time\n"
        "def stop(*_):\n"
        "    print('saved', flush=True)\n"
        "    sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "print('begun', os.environ.get('GREETING'), flush=True)\n"
        "time.sleep(float(sys.argv[1]))\n"
        "print('done', flush=True)\n"
        "sys.exit(int(sys.argv[2]))\n"
    )
    return tmp_path


def submission(name: str, code: Path, seconds: float, status: int = 0) -> Submission:
    return Submission(name, ("python", "errand.py", str(seconds), str(status)), code, {"GREETING": "hello there"})


def ended(backend: RayJobs, name: str, within_s: int = 180) -> State:
    for _ in range(2 * within_s):
        if (status := backend.status(name)).state.ended:
            return status.state
        time.sleep(0.5)
    raise AssertionError(backend.status(name))


def test_a_job_from_its_start_to_its_end(backend: RayJobs, code: Path) -> None:
    assert backend.status("first-1").state is State.MISSING
    backend.submit(submission("first-1", code, 3))
    with pytest.raises(AlreadyThere):
        backend.submit(submission("first-1", code, 3))
    assert backend.status("first-1").state in (State.WAITING, State.RUNNING)
    said = ""
    while not backend.status("first-1").state.ended or "done" not in said:  # a stream may end before its job
        for piece in backend.logs("first-1", skip=len(said)):
            said += piece
    assert said.count("begun hello there\n") == 1
    assert said.count("done\n") == 1
    assert ended(backend, "first-1") is State.SUCCEEDED
    tail = said.index("done")
    assert "".join(backend.logs("first-1", skip=tail)) == said[tail:]
    assert backend.attach("first-")["first-1"].state is State.SUCCEEDED
    assert backend.attach("second-") == {}
    backend.cancel("first-1")
    backend.cancel("never-1")


def test_a_job_that_fails(backend: RayJobs, code: Path) -> None:
    """What it said last goes along, not all that it has said."""
    backend.submit(submission("fails-1", code, 0, status=3))
    assert ended(backend, "fails-1") is State.FAILED
    status = backend.status("fails-1")
    assert status.message == "Job entrypoint command failed with exit code 3: done"
    assert status.asked_at
    assert abs(time.time() - status.asked_at) < 100


def test_a_job_that_is_cancelled_has_time_to_save(backend: RayJobs, code: Path) -> None:
    backend.submit(submission("cancelled-1", code, 600))
    said = ""
    while "begun" not in said:
        said = "".join(_first(backend, "cancelled-1"))
    backend.cancel("cancelled-1")
    assert ended(backend, "cancelled-1") is State.STOPPED
    assert "saved" in "".join(backend.logs("cancelled-1"))


def test_streams_that_are_left_are_closed(
    backend: RayJobs, address: str, code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would else receive the rest of the log, for nobody."""
    backend.submit(submission("silent-1", code, 600))
    until(lambda: "begun" in next(backend.logs("silent-1"), ""), 60)
    monkeypatch.setattr(ray_jobs, "_SILENT_S", 3.0)
    assert "begun" in "".join(backend.logs("silent-1"))
    until(lambda: "job logs" not in [thread.name for thread in threading.enumerate()])
    connections = psutil.Process().net_connections()
    assert urlsplit(address).port not in [connection.raddr.port for connection in connections if connection.raddr]
    assert backend.status("silent-1").state is State.RUNNING
    backend.cancel("silent-1")


def _first(backend: RayJobs, name: str) -> Iterator[str]:
    for piece in backend.logs(name):
        yield piece
        if "begun" in piece:
            return


@pytest.mark.timeout(900)  # Ray copies the virtual environment in which it runs, with gigabytes of torch
def test_what_is_locked_is_installed_for_the_job(address: str, tmp_path: Path) -> None:
    """A package that the machine has not; one whose hash is another is refused."""
    wheel = tmp_path / "wheels/sheep-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with ZipFile(wheel, "w") as file:
        file.writestr("sheep.py", "print('ten sheep', flush=True)")
        file.writestr("sheep-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: sheep\nVersion: 1.0\n")
        file.writestr("sheep-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("sheep-1.0.dist-info/RECORD", "")
    right, lock, code = sha256(wheel.read_bytes()).hexdigest(), tmp_path / "lock", tmp_path / "code"
    code.mkdir()
    for name, digest, state in (("locked-1", right, State.SUCCEEDED), ("locked-2", "0" * 64, State.FAILED)):
        lock.write_text(f"# a comment\nsheep @ file://{wheel} \\\n    --hash=sha256:{digest}\n    # via nobody\n")
        backend = RayJobs(address, lock)
        backend.submit(Submission(name, ("python", "-c", "import sheep"), code))
        assert ended(backend, name, 400) is state, backend.status(name)
    assert "ten sheep" in "".join(backend.logs("locked-1"))
    assert "hash" in backend.status("locked-2").message.lower()


ASKS_A_WORKER = """
def ask():
    import pipelines
    return pipelines.WORD

if __name__ == "__main__":
    from pipelines.cluster.session import ray_session
    from pipelines.project import results
    from pipelines.settings import load_settings
    with ray_session(load_settings()) as ray:
        print("a worker says:", word := ray.get(ray.remote(ask).remote()))
    results("asked").parent.mkdir()
    results("asked").write_text(word)
"""


def test_the_workers_of_a_commits_pipeline_run_the_code_of_the_commit(
    backend: RayJobs, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """That of the one who asks has no such word."""
    folder = tmp_path / "project"
    for name in code_here().files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(workspace() / name, folder / name)
    (folder / "pipelines/__init__.py").write_text('WORD = "that of the commit"\n')
    (folder / "pipelines/asks.py").write_text(ASKS_A_WORKER)
    stage = "{cmd: python -m pipelines.asks, deps: [pipelines/asks.py], outs: [results/asked]}"
    (folder / "dvc.yaml").write_text(f"stages: {{asks: {stage}}}\n")
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text(f"[core]\nremote = store\n['remote \"store\"']\nurl = {tmp_path / 'store'}\n")
    (folder / ".gitignore").write_text("/results\n")
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    for words in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "a pipeline"]):
        subprocess.run(["git", *words], cwd=folder, check=True)

    monkeypatch.setenv("PIPELINES_CACHE", str(tmp_path / "cache"))
    settings = Settings(
        ray=RaySettings(address=address),
        jobs=JobSettings(pass_on=("PIPELINES_CACHE",)),
        storage=StorageSettings(uri=str(tmp_path / "runs")),
        tracking=TrackingSettings(uri="http://mlflow.example.com"),
    )
    depot, answers = depot_of(settings), list[Answer]()
    request = submit.request_of(folder, submit.commit_of(folder, "HEAD"), [], settings, depot, backend.place)
    Work(request, depot, backend, settings, answers.append).run()
    assert "a worker says: that of the commit" in capfd.readouterr().out
    assert [answer.said for answer in answers] == ["done, and pushed"]


@pytest.mark.parametrize("wrong", ["", "c" * 32])
def test_a_wrong_token_is_no_answer_about_jobs(address: str, wrong: str) -> None:
    """In a process of its own: Ray reads its token once."""
    code = f"from pipelines.backends.ray_jobs import RayJobs\nRayJobs({address!r}).status('first-1')"
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": wrong, "HOME": "/nonexistent"}
    if not wrong:
        del environment["RAY_AUTH_TOKEN"], environment["RAY_AUTH_MODE"]
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "refused the token, or wants one; set RAY_AUTH_MODE=token" in done.stderr
    assert "c" * 32 not in done.stderr


def test_nobody_there() -> None:
    (port,) = free_ports(1)
    with pytest.raises(Unreachable, match="does not answer"):
        RayJobs(f"http://127.0.0.1:{port}").status("first-1")


def test_somebody_who_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As over a link that was cut."""
    monkeypatch.setattr(ray_jobs, "_ANSWER_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        backend = RayJobs(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(Unreachable, match="did not answer within 1 s"):
            backend.status("first-1")
