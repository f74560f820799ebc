"""Pulling the plug: kill -9 of the whole process group of `dvc repro`, then the same command again."""

import os
import signal
import time

import pytest

from tests.end_to_end.project import TINY, Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_killed_half_way_ends_with_the_same_weights(tmp_path):
    steps = {"train__steps": "120", "train__val_every": "60"}
    calm, killed = (Project.clone(tmp_path / name) for name in ("calm", "killed"))
    for project in (calm, killed):
        project.set(**TINY, **steps)
    calm.run("dvc", "repro", "train")

    process = killed.start("dvc", "repro", "train")
    wait_for_checkpoint(killed, process, at_least=40)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (killed.folder / "results/train").exists()

    output = killed.run("dvc", "repro", "train")
    assert output.stages == ["train"]
    assert "resum" in output.text.lower()
    wanted, got = (p.json("results/train/model.json")["digests"] for p in (calm, killed))
    assert got == wanted


def wait_for_checkpoint(project: Project, process, at_least: int) -> None:
    """Until the run has committed a checkpoint at or beyond that step."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stdout.read()
        folders = (project.folder / ".state/runs").glob("*/step-*")
        if any(int(folder.name.split("-")[1]) >= at_least for folder in folders):
            return
        time.sleep(0.05)
    raise AssertionError("no checkpoint in time")
