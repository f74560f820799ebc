"""A stage that runs elsewhere: one job for its work, whatever becomes of those who ask for it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

from tests.pipelines.remote.conftest import Errands, until


def test_outputs_come_back_and_the_same_work_is_not_done_twice(errands: Errands) -> None:
    said = errands.run()
    assert re.search(r"job reference-[0-9a-f]{16}-[0-9a-f]{6}-1 started on this machine", said)
    assert "the errand begins: a meadow" in said
    assert "counting  10/10 sheeps" in said
    assert "\x1e" not in said
    assert errands.output.read_text() == "ten"
    shutil.rmtree(errands.folder / "results/reference")
    again = errands.run("fails")
    assert "has done this before" in again
    assert "the errand is done" in again
    assert errands.output.read_text() == "ten"
    assert len(errands.jobs) == 1
    assert not list((errands.folder / "results").glob(".*"))


def test_other_inputs_are_other_work(errands: Errands) -> None:
    errands.run()
    (errands.folder / "results/prepare/data").write_text("a desert")
    assert "a desert" in errands.run()
    assert len(errands.jobs) == 2


def test_a_failure_is_told_as_if_it_were_here_and_is_tried_again_when_asked_again(errands: Errands) -> None:
    said = errands.run("fails", status=1)
    assert re.search(r"^error: in job reference-\S+-1: no sheep$", said, re.MULTILINE)
    assert not errands.output.exists()
    assert len(errands.jobs) == 1
    errands.run()
    assert errands.output.exists()
    assert [job.name[-1] for job in errands.jobs] == ["1", "2"]


def test_a_client_that_was_killed_comes_back_to_its_job(errands: Errands) -> None:
    first = errands.begin("slow")
    errands.running()
    first.process.kill()
    first.process.wait()
    second = errands.begin("slow")
    until(lambda: "coming back to job" in second.text, errands)
    errands.let_go()
    assert second.wait() == 0, second.text
    assert "the errand begins" in second.text
    assert errands.output.exists()
    assert len(errands.jobs) == 1


def test_of_two_clients_at_once_one_starts_a_job_and_both_get_its_outputs(errands: Errands) -> None:
    clients = [errands.begin("slow"), errands.begin("slow")]
    until(lambda: all("the errand begins" in client.text for client in clients), errands)
    errands.let_go()
    assert sorted(client.wait() for client in clients) in ([0, 0], [0, 1]), [client.text for client in clients]
    assert len(errands.jobs) == 1
    assert errands.output.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_ctrl_c_leaves_the_job_alone_and_says_how_to_come_back(errands: Errands, number: signal.Signals) -> None:
    client = errands.begin("slow")
    until(lambda: "counting" in client.text or "the errand begins" in client.text, errands)
    client.process.send_signal(number)
    assert client.wait() == 75
    assert "goes on, on this machine: run the same command again" in client.text
    assert "Traceback" not in client.text
    errands.let_go()
    assert "coming back to job" in errands.run() or "has done this before" in errands.clients[-1].text


@pytest.mark.slow
def test_ctrl_c_stops_the_job_where_so_configured(errands: Errands) -> None:
    client = errands.begin("slow", PIPELINES__JOBS__ON_INTERRUPT="cancel")
    until(lambda: "the errand begins" in client.text, errands)
    client.process.send_signal(signal.SIGINT)
    assert client.wait() == 75
    assert "is asked to save and stop" in client.text
    until(lambda: not errands.processes(), errands)
    assert "saved" in (errands.jobs[0] / "log.txt").read_text()
    errands.let_go()
    errands.run()
    assert [job.name[-1] for job in errands.jobs] == ["1", "2"]


@pytest.mark.slow
def test_a_job_that_is_killed_is_followed_by_another(errands: Errands) -> None:
    client = errands.begin("slow")
    errands.running()
    for process in errands.processes():
        process.kill()
    until(lambda: len(errands.jobs) == 2, errands)
    errands.let_go()
    assert client.wait() == 0, client.text
    assert "ended without a word" in client.text
    assert errands.output.exists()


@pytest.mark.slow
def test_jobs_that_are_killed_again_and_again_are_given_up(errands: Errands) -> None:
    client = errands.begin("slow", PIPELINES__JOBS__ATTEMPTS="2")
    for attempt in (1, 2):
        until(lambda n=attempt: len(errands.jobs) == n and bool(errands.processes()), errands)
        for process in errands.processes():
            process.kill()
    assert client.wait() == 1
    assert "2 jobs in a row ended without a word (jobs.attempts)" in client.text


def test_a_job_that_counts_nothing_further_is_ended(errands: Errands) -> None:
    said = errands.run("stands still", status=1, PIPELINES__JOBS__STALLED_AFTER_MIN="0.05")
    assert "counting stands at 1" in said
    assert "jobs.stalled_after_min" in said
    assert not errands.processes()


@pytest.mark.slow
def test_outputs_that_are_damaged_in_the_depot_are_made_again(errands: Errands) -> None:
    errands.run()
    (sheep,) = (
        path
        for path in (errands.folder / ".state/runs/depot/objects").rglob("*")
        if path.is_file() and path.read_bytes() == b"ten"
    )
    sheep.write_text("TEN")
    said = errands.run()
    assert "cannot be used any more" in said
    assert errands.output.read_text() == "ten"
    assert len(errands.jobs) == 2


def test_a_job_with_other_parameters_for_the_same_work_is_not_joined(errands: Errands) -> None:
    """As a training of more steps than the one that runs."""
    module = errands.folder / "pipelines/reference.py"
    module.write_text(
        module.read_text().replace("run_stage(main)", "run_stage(main, lambda params, settings: '0' * 16)")
    )
    first = errands.begin("slow")
    errands.running()
    params = errands.folder / "params.yaml"
    params.write_text(re.sub(r"(?m)^(reference:\n(?:  .*\n)*?  seed: ).*$", r"\g<1>7", params.read_text()))
    said = errands.run(status=1)
    assert "is at work on the same run with other parameters" in said
    errands.let_go()
    assert first.wait() == 0


@pytest.mark.slow
def test_the_list_the_log_and_the_end_of_jobs(errands: Errands) -> None:
    assert "no job was started" in errands.command()
    errands.run()
    errands.begin("slow", ERRAND_GO="/nowhere", PIPELINES__JOBS__ON_INTERRUPT="detach")
    (errands.folder / "results/prepare/data").write_text("a desert")
    errands.begin("slow")
    until(lambda: "running" in errands.command(), errands)
    listed = errands.command()
    assert re.search(r"succeeded +│ its outputs are there", listed)
    (running,) = re.findall(r"(reference-\S+) │[^│]+│ running", listed)
    until(lambda: "counting" in (errands.folder / ".state/jobs/local" / running / "log.txt").read_text(), errands)
    assert f"{running}: stopped" in errands.command("cancel", running)
    assert "a desert" in errands.command("logs", running)
    assert "had ended before" in errands.command("cancel", running)
    assert "knows no job" in errands.command("cancel", "train-0000000000000000-1")


@pytest.mark.slow
def test_ctrl_c_in_a_log_leaves_the_job_alone(errands: Errands) -> None:
    stage = errands.begin("slow")
    errands.running()
    name = errands.jobs[0].name
    reader = errands.start(["pipelines.jobs", "logs", name], errands.environment(""))
    until(lambda: "the errand begins" in reader.text, errands)
    reader.process.send_signal(signal.SIGINT)
    assert reader.wait() == 75
    assert reader.text.endswith(f"stopped: job {name} goes on, on this machine\n")
    assert "Traceback" not in reader.text
    errands.let_go()
    assert stage.wait() == 0


def job_by_hand(errands: Errands, name: str) -> str:
    """What a job says that is told of another request than the one in the depot."""
    command = [sys.executable, "-m", "pipelines.remote.run", str(errands.folder / ".state/runs/depot"), name, "0" * 64]
    done = subprocess.run(
        command, cwd=errands.folder, env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    return done.stderr


def test_a_job_that_nobody_asked_for(errands: Errands) -> None:
    assert "error: nobody has asked for a job train-" in job_by_hand(errands, "train-" + "0" * 16 + "-1")


def test_a_job_whose_request_was_exchanged(errands: Errands) -> None:
    errands.run()
    (job,) = errands.jobs
    assert f"error: the request for job {job.name} in " in job_by_hand(errands, job.name)


@pytest.mark.slow
def test_what_nobody_needs_any_more_is_taken_away(errands: Errands) -> None:
    errands.run()
    assert "all was needed within 30 days" in errands.command("prune")
    objects = errands.folder / ".state/runs/depot/objects"
    before = sum(path.is_file() for path in objects.rglob("*"))
    assert f"{before} files" in errands.command("prune", "--older-than", "0")
    assert sum(path.is_file() for path in objects.rglob("*")) == before
    assert "deleted" in errands.command("prune", "--older-than", "0", "--delete")
    assert not [path for path in objects.rglob("*") if path.is_file()]
    said = errands.run()
    assert "cannot be used any more" in said, "its outputs are gone with the rest"
    assert errands.output.read_text() == "ten"
