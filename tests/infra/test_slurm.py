"""The sbatch script's own logic, with stand-ins for Slurm's commands and for `ray`; Slurm itself is not needed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.infra.conftest import INFRA, ROOT, tool

SCRIPT = INFRA / "slurm" / "train.sbatch"
JOB = str(os.getpid() * 100000 + 12345)  # whose processes are looked for among all on this machine
COMMANDS = {
    "srun": "while [[ $1 == --* ]]; do shift; done\n"
    '[ "$1" != hostname ] || { echo 10.1.2.3 10.9.9.9; exit; }\nexec "$@"',
    "scontrol": 'if [ "$1" = show ]; then printf "%s\\n" first second; else echo "$@" >> calls; fi',
    "ray": 'echo "$@" > ray.args\nstat -c %a "$RAY_AUTH_TOKEN_PATH" > token.mode\n'
    'echo "$RAY_TMPDIR" > tmp.folder\n'
    'while [ "$1" != -- ]; do shift; done\nshift\n"$@"',
}
TRAIN = """
import os, signal, sys, time
from pathlib import Path
def stop(*_):
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
Path("started").write_text(os.environ["RAY_ADDRESS"])
time.sleep(60 if os.environ.get("WAIT") else 0)
sys.exit(int(os.environ.get("STATUS", "0")))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose .venv has the stand-ins."""
    tool("openssl")
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, lines in COMMANDS.items():
        (programs / name).write_text(f"#!/bin/bash\n{lines}\n")
        (programs / name).chmod(0o755)
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "train.py").write_text(TRAIN)
    return tmp_path


def start(project: Path, **environment: str) -> subprocess.Popen[str]:
    variables = os.environ | {
        "PATH": f"{project / '.venv' / 'bin'}:{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(project),
        "SLURM_JOB_ID": JOB,
        "SLURM_JOB_NODELIST": "first,second",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_ON_NODE": "8",
        "COMMAND": f"{sys.executable} -m pipelines.train",
    }
    command = ["bash", str(SCRIPT)]
    return subprocess.Popen(command, cwd=project, env=variables | environment, stdout=subprocess.PIPE, text=True)


def test_ray_starts_everywhere_with_a_token_and_the_command_is_told_of_it(project: Path) -> None:
    process = start(project)
    process.communicate(timeout=60)
    assert process.returncode == 0
    arguments = (project / "ray.args").read_text()
    assert arguments.startswith("symmetric-run --address 10.1.2.3:22345 --min-nodes 2 --num-cpus=8 -- env RAY_ADDRESS=")
    assert (project / "tmp.folder").read_text() == f"/tmp/ray-{JOB}\n"
    assert (project / "started").read_text() == "10.1.2.3:22345"
    assert (project / "token.mode").read_text() == "600\n"
    assert list((project / ".state").iterdir()) == []
    assert not (project / "calls").exists()


def test_a_command_that_fails_fails_the_job(project: Path) -> None:
    process = start(project, STATUS="3")
    process.communicate(timeout=60)
    assert process.returncode == 3
    assert not (project / "calls").exists()


def appears(path: Path) -> bool:
    """Within half a minute."""
    for _ in range(300):
        if path.exists():
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def bystander(project: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A training of the same user on the same machine that is not of this job."""
    elsewhere = project / "elsewhere"
    shutil.copytree(project / "pipelines", elsewhere / "pipelines")
    environment = os.environ | {"WAIT": "yes", "RAY_ADDRESS": "", "SLURM_JOB_ID": "1"}
    process = subprocess.Popen([sys.executable, "-m", "pipelines.train"], cwd=elsewhere, env=environment)
    assert appears(elsewhere / "started")
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    ("number", "then"),
    [(signal.SIGUSR1, [f"requeue {JOB}"]), (signal.SIGUSR2, [])],
    ids=["time is up: it goes back into the queue", "asked to leave: it does not"],
)
def test_the_training_saves(number: int, then: list[str], project: Path, bystander: subprocess.Popen[bytes]) -> None:
    tool("pgrep")
    process = start(project, WAIT="yes")
    assert appears(project / "started")
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 75
    calls = project / "calls"
    assert (calls.read_text().splitlines() if calls.exists() else []) == then
    assert list((project / ".state").iterdir()) == []
    assert bystander.poll() is None


def test_asked_to_leave_before_there_is_anything_to_save_it_leaves(project: Path) -> None:
    """While Ray starts."""
    (project / ".venv" / "bin" / "ray").write_text("#!/bin/bash\ntouch started\nexec sleep 60\n")
    process = start(project)
    assert appears(project / "started")
    process.send_signal(signal.SIGUSR2)
    process.communicate(timeout=30)
    assert process.returncode != 0
    assert not (project / "calls").exists()


def test_its_programs_may_be_elsewhere(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("programs")
    (project / ".venv" / "bin").rename(elsewhere / "bin")
    process = start(project, PROGRAMS=str(elsewhere / "bin"), PATH=os.environ["PATH"])
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert (project / "started").exists()


def test_the_options_of_the_job() -> None:
    options = set(re.findall(r"^#SBATCH (--[\w-]+)", SCRIPT.read_text(), re.MULTILINE))
    assert {"--requeue", "--exclusive", "--ntasks-per-node", "--signal", "--open-mode"} <= options
    assert SCRIPT.relative_to(ROOT).as_posix() in SCRIPT.read_text()
