"""Jobs of a real Slurm of two machines. A stand-in for `ray symmetric-run` runs the command on the first; with Ray
itself: test_slurm_with_ray.py."""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pipelines.backends import slurm as module
from pipelines.backends.backend import AlreadyThere, State, Status, Unreachable
from pipelines.backends.slurm import Slurm
from pipelines.errors import PipelineError
from pipelines.remote.follow import follow
from tests.pipelines.backends.conftest import WAITS, Make, begun, end_of, until
from tests.pipelines.backends.slurm_cluster import SlurmCluster, slurm_cluster

pytestmark = pytest.mark.root

RAY = """#!/bin/bash
[ "${CLUSTER%:*}" = "$(hostname -I | tr -d ' ')" ] || exit 0
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""
COUNT = itertools.count()
TWICE = """
import os
if os.path.exists("begun"):
    raise SystemExit(0)
"""
OPTIONS = ("--nodes=1", "--gpus-per-node=0")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        (cluster.folder / "programs").mkdir()
        for name, lines in {"ray": RAY, "python": f'#!/bin/sh\nexec {sys.executable} "$@"\n'}.items():
            (cluster.folder / "programs" / name).write_text(lines)
            (cluster.folder / "programs" / name).chmod(0o755)
        yield cluster


@pytest.fixture
def one() -> str:
    """A name that no other test has given to a job: Slurm remembers those that have ended."""
    return f"one-{next(COUNT)}"


@pytest.fixture
def slurm(cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Slurm]:
    """With jobs of its own; they are ended."""
    monkeypatch.setenv("PATH", str(cluster.folder / "bin"), prepend=os.pathsep)
    monkeypatch.setattr(sys, "executable", str(cluster.folder / "programs" / "python"))
    yield Slurm(cluster.folder / f"jobs of {request.node.name}", OPTIONS)
    subprocess.run(["scancel", "--signal=KILL", "--full", "--me"], check=True)
    subprocess.run(["scancel", "--me"], check=True)
    until(lambda: not subprocess.run(["squeue", "-h", "--me"], capture_output=True).stdout)


def number(slurm: Slurm, name: str) -> str:
    """Slurm's, of a job."""
    return slurm._known([name])[name].number


def processes(job: str) -> list[psutil.Process]:
    """Of a job, on both machines."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("SLURM_JOB_ID") == job:
                found.append(process)
    return found


def start_at_once(job: str) -> None:
    """One that has gone back into the queue, where it would stay for two minutes."""
    time.sleep(1.5)  # in the second of its end it cannot start
    subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=True)


def test_a_job_has_its_words_its_environment_and_its_code(slurm: Slurm, make: Make, one: str) -> None:
    program = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ['WHERE'], sorted(os.listdir())]))"
    assert slurm.status(one) == Status(State.MISSING)
    slurm.submit(make(one, program, WHERE="a 'b' $c"))
    assert end_of(slurm, one) == (State.SUCCEEDED, "")
    assert json.loads("".join(slurm.logs(one))) == [["a b", "$HOME"], "a 'b' $c", [".state", "pipelines"]]
    with pytest.raises(AlreadyThere, match=f"there is a job {one}"):
        slurm.submit(replace(make(f"{one}-two"), name=one))


def test_exit_statuses(slurm: Slurm, make: Make, one: str) -> None:
    """Also when Slurm has forgotten the job."""
    slurm.submit(make(f"{one}-0"))
    slurm.submit(make(f"{one}-3", "raise SystemExit(3)"))
    assert end_of(slurm, f"{one}-0") == (State.SUCCEEDED, "")
    assert end_of(slurm, f"{one}-3") == (State.FAILED, "exit status 3")
    ends = slurm.attach(one)
    assert [(name, status.state) for name, status in ends.items()] == [
        (f"{one}-0", State.SUCCEEDED),
        (f"{one}-3", State.FAILED),
    ]
    assert {name: slurm._status(name, None, starting=False) for name in ends} == ends


def test_logs_come_while_it_runs(slurm: Slurm, make: Make, one: str) -> None:
    slurm.submit(make(one, WAITS))
    begun(slurm.folder, one)
    assert next(slurm.logs(one)) == "begun\n"
    assert slurm.status(one).state == State.RUNNING
    assert slurm.status(one).message == f"Slurm's job {number(slurm, one)}: RUNNING"


def test_a_cancelled_job_saves_and_is_stopped(slurm: Slurm, make: Make, one: str) -> None:
    slurm.submit(make(one, WAITS))
    begun(slurm.folder, one)
    slurm.cancel(one)
    assert end_of(slurm, one) == (State.STOPPED, "exit status 75")
    log = "".join(slurm.logs(one))
    assert "asked to leave: saving\n" in log
    assert "saved\n" in log
    slurm.cancel(one)
    slurm.cancel(f"{one}-another")
    assert slurm.status(f"{one}-another") == Status(State.MISSING)


def test_a_job_that_waits_says_why_and_can_be_cancelled(slurm: Slurm, make: Make, one: str) -> None:
    slurm.submit(make(one, WAITS))
    replace(slurm, options=(*OPTIONS, "--hold")).submit(make(f"{one}-two", WAITS))
    assert slurm.status(f"{one}-two").state == State.WAITING
    assert slurm.status(f"{one}-two").message == f"Slurm's job {number(slurm, f'{one}-two')}: PENDING, JobHeldUser"
    slurm.cancel(f"{one}-two")
    assert slurm.status(f"{one}-two").state == State.STOPPED
    assert not (slurm.folder / f"{one}-two" / "code" / "begun").exists()


def test_one_that_somebody_else_cancelled_is_stopped(slurm: Slurm, make: Make, one: str) -> None:
    slurm.submit(make(one, WAITS))
    begun(slurm.folder, one)
    subprocess.run(["scancel", number(slurm, one)], check=True)
    assert end_of(slurm, one) == (State.STOPPED, "exit status 75")


def test_another_project_whose_job_has_the_same_name(slurm: Slurm, make: Make, one: str) -> None:
    other = replace(slurm, folder=slurm.folder.with_name(f"{slurm.folder.name} of others"))
    slurm.submit(make(one, WAITS))
    begun(slurm.folder, one)
    other.submit(replace(make(f"{one}-two", "raise SystemExit(3)"), name=one))
    assert end_of(other, one) == (State.FAILED, "exit status 3")
    assert number(slurm, one) != number(other, one)
    other.cancel(one)
    assert slurm.attach("")[one] == Status(State.RUNNING, f"Slurm's job {number(slurm, one)}: RUNNING")
    slurm.cancel(one)
    assert end_of(slurm, one) == (State.STOPPED, "exit status 75")
    assert other.status(one) == Status(State.FAILED, "exit status 3")


def test_who_watches_a_job_that_waits_is_told_why(
    slurm: Slurm, make: Make, one: str, capsys: pytest.CaptureFixture[str]
) -> None:
    held = replace(slurm, options=(*OPTIONS, "--hold"))
    held.submit(make(one, "import time; time.sleep(2)"))
    job = number(slurm, one)
    threading.Timer(1, subprocess.run, (["scontrol", "release", job],)).start()
    assert follow(one, held).state is State.SUCCEEDED
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"job {one} waits: Slurm's job {job}: PENDING, JobHeldUser"
    assert said.count(said[0]) == 1
    assert said[-1] == f"job {one} runs"


@pytest.mark.slow
def test_one_whose_processes_are_killed_has_failed(slurm: Slurm, make: Make, one: str) -> None:
    slurm.submit(make(one, WAITS))
    begun(slurm.folder, one)
    all_of_it = processes(number(slurm, one))
    for process in all_of_it:
        process.suspend()  # or the shell would see its command die
    for process in all_of_it:
        process.kill()
    state, message = end_of(slurm, one)
    assert state == State.FAILED
    assert "FAILED, " in message


def test_when_its_time_is_nearly_up_it_goes_back_into_the_queue_and_on(slurm: Slurm, make: Make, one: str) -> None:
    """Its exit status of the first time says nothing."""
    program = "import os\nassert not os.path.exists('../status')\n" + TWICE + WAITS
    slurm.submit(make(one, program))
    begun(slurm.folder, one)
    subprocess.run(["scancel", "--batch", "--signal=USR1", number(slurm, one)], check=True)
    until(lambda: slurm.status(one).state == State.WAITING)
    assert "PENDING" in slurm.status(one).message
    start_at_once(number(slurm, one))
    until(lambda: slurm.status(one).state != State.WAITING)
    assert end_of(slurm, one) == (State.SUCCEEDED, "")
    log = "".join(slurm.logs(one))
    for line in ("begun", "time is nearly up: saving", "saved", "back into the queue"):
        assert f"{line}\n" in log


def test_what_slurm_refuses_is_said_in_its_words_and_leaves_the_name_free(slurm: Slurm, make: Make, one: str) -> None:
    submission = make(one)
    with pytest.raises(PipelineError, match="Slurm did not take the job: sbatch: error: Invalid generic res") as error:
        replace(slurm, options=("--gpus-per-node=1",)).submit(submission)
    assert not isinstance(error.value, Unreachable)
    assert slurm.status(one) == Status(State.MISSING)
    slurm.submit(submission)
    assert end_of(slurm, one) == (State.SUCCEEDED, "")


@pytest.mark.slow
def test_a_job_whose_machine_dies_waits_and_runs_again(
    slurm: Slurm, cluster: SlurmCluster, make: Make, one: str
) -> None:
    program = TWICE + WAITS
    replace(slurm, options=("--nodes=2", "--gpus-per-node=0")).submit(make(one, program))
    begun(slurm.folder, one)
    cluster.kill("two")
    until(lambda: slurm.status(one).state != State.RUNNING, 60)
    assert slurm.status(one).state == State.WAITING
    cluster.start("two")
    start_at_once(number(slurm, one))
    assert end_of(slurm, one, 60) == (State.SUCCEEDED, "")


@pytest.mark.slow
def test_a_controller_that_gives_no_answer_or_is_gone_says_nothing_of_any_job(
    slurm: Slurm, cluster: SlurmCluster, make: Make, one: str
) -> None:
    """One that is only slow may have taken the job, so its folder stays."""
    slurm.submit(make(one, WAITS))
    begun(slurm.folder, one)
    cluster.controller.suspend()
    with pytest.raises(Unreachable, match="timed out"):
        slurm.status(one)
    with pytest.raises(Unreachable, match="timed out"):
        slurm.submit(make(f"{one}-two", WAITS))
    with pytest.raises(Unreachable, match="timed out"):
        slurm.cancel(one)
    cluster.controller.resume()
    assert slurm.status(one).state == State.RUNNING
    until(lambda: slurm.status(f"{one}-two").state in (State.WAITING, State.RUNNING))
    cluster.kill("one", "slurmctld")
    with pytest.raises(Unreachable, match="Unable to contact"):
        slurm.attach("")
    with pytest.raises(Unreachable, match="Unable to contact"):
        slurm.submit(make(f"{one}-three", WAITS))
    cluster.start("one", "slurmctld")
    until(lambda: not subprocess.run(["squeue"], capture_output=True).returncode)
    assert slurm.status(one).state == State.RUNNING
    assert list(slurm.attach(one)) == [one, f"{one}-two"]


def test_secrets_are_on_no_command_line(slurm: Slurm, make: Make, one: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter22")
    asked = []
    real = subprocess.run

    def listen(command: list[str], **more: object) -> object:
        asked.append(command)
        return real(command, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(module.subprocess, "run", listen)
    slurm.submit(make(one, "import os; print(os.environ['AWS_SECRET_ACCESS_KEY'])"))
    assert end_of(slurm, one) == (State.SUCCEEDED, "")
    assert "".join(slurm.logs(one)) == "hunter22\n"
    assert "hunter22" not in str(asked)


def test_without_slurms_programs_it_says_so(
    make: Make, one: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PipelineError, match="sbatch is not on PATH"):
        Slurm(tmp_path / "jobs").submit(make(one))
    assert Slurm(tmp_path / "jobs").status(one) == Status(State.MISSING)
