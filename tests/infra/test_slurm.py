"""The sbatch script's own logic, with stand-ins for Slurm's commands and for `ray`; Slurm itself is not needed."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.infra.conftest import INFRA, ROOT, tool

SCRIPT = INFRA / "slurm" / "train.sbatch"
COMMANDS = {
    "srun": "while [[ $1 == --* ]]; do shift; done\n"
    '[ "$1" != hostname ] || { echo 10.1.2.3 10.9.9.9; exit; }\nexec "$@"',
    "scontrol": 'if [ "$1" = show ]; then printf "%s\\n" first second; else echo "$@" >> calls; fi',
    "ray": 'echo "$@" > ray.args\nstat -c %a "$RAY_AUTH_TOKEN_PATH" > token.mode\n'
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
        "SLURM_JOB_ID": "12345",
        "SLURM_JOB_NODELIST": "first,second",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_ON_NODE": "8",
        "USER": "nobody-of-that-name",
        "COMMAND": f"{sys.executable} -m pipelines.train",
    }
    command = ["bash", str(SCRIPT)]
    return subprocess.Popen(command, cwd=project, env=variables | environment, stdout=subprocess.PIPE, text=True)


def test_ray_starts_everywhere_with_a_token_and_the_command_is_told_of_it(project: Path) -> None:
    process = start(project)
    process.communicate(timeout=60)
    assert process.returncode == 0
    arguments = (project / "ray.args").read_text()
    assert arguments.startswith("symmetric-run --address 10.1.2.3:22345 --min-nodes 2 --num-cpus=8 ")
    assert "--temp-dir=/tmp/ray-12345 -- env RAY_ADDRESS=10.1.2.3:22345 " in arguments
    assert (project / "started").read_text() == "10.1.2.3:22345"
    assert (project / "token.mode").read_text() == "600\n"
    assert list((project / ".state").iterdir()) == []
    assert not (project / "calls").exists()


def test_a_command_that_fails_fails_the_job(project: Path) -> None:
    process = start(project, STATUS="3")
    process.communicate(timeout=60)
    assert process.returncode == 3
    assert not (project / "calls").exists()


def test_when_time_is_up_the_training_saves_and_the_job_goes_back_into_the_queue(project: Path) -> None:
    (project / ".venv" / "bin" / "pkill").write_text(
        "#!/bin/bash\n"
        'echo "$@" > pkill.args\nfor file in /proc/[0-9]*; do\n'
        '  if [ "$(readlink "$file/cwd")" = "$PWD" ] && tr "\\0" " " < "$file/cmdline" | grep -qE "${!#}"; then\n'
        '    kill -TERM "${file#/proc/}"\n  fi\ndone 2> /dev/null\n'
    )
    (project / ".venv" / "bin" / "pkill").chmod(0o755)
    process = start(project, WAIT="yes")
    for _ in range(300):
        if (project / "started").exists():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=30)
    assert process.returncode == 75
    assert (project / "calls").read_text() == "requeue 12345\n"
    assert (project / "pkill.args").read_text().startswith("-TERM -u nobody-of-that-name -f ^")
    assert list((project / ".state").iterdir()) == []


def test_the_options_of_the_job() -> None:
    options = set(re.findall(r"^#SBATCH (--[\w-]+)", SCRIPT.read_text(), re.MULTILINE))
    assert {"--requeue", "--exclusive", "--ntasks-per-node", "--signal", "--open-mode"} <= options
    assert SCRIPT.relative_to(ROOT).as_posix() in SCRIPT.read_text()
