"""DVC's commands in a job, by the real `dvc`: they end with their stages, and get on while bytes pass."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from pipelines.remote import supervised as module
from pipelines.remote.dvc_commands import Push, Repro, keep_cache
from pipelines.remote.pipeline import stopped_with
from pipelines.remote.supervised import Ended, Manner, supervised
from tests.pipelines.remote.processes import is_gone

STAGE = """
import os, signal, sys, time
name, how = sys.argv[1:]
def stop(number, frame):
    if how == "saves":
        print("stopped: saved at step 7", flush=True)
        sys.exit(75)
    if how == "cannot save":
        print("error: the disk is full", flush=True)
        sys.exit(1)
    if how == "ends well":
        sys.exit(0)
if how != "dies":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
print(name, "begins", flush=True)
open(name + ".pid", "w").write(str(os.getpid()))
time.sleep(60)
"""


def environment(**more: str) -> dict[str, str]:
    """With this interpreter's programs first on PATH."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "DVC_NO_ANALYTICS": "1"} | more


def project_of(folder: Path, *commands: str) -> Path:
    """One whose stages `one`, `two` .. are these commands."""
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    (folder / "stage.py").write_text(STAGE)
    stages = (f"  {name}:\n    cmd: {command}\n" for name, command in zip(("one", "two"), commands, strict=False))
    (folder / "dvc.yaml").write_text("stages:\n" + "".join(stages))
    return folder


def repro(project: Path, limit_s: float = 60, *, asked: bool = True, **variables: str) -> Ended:
    """`dvc repro`, and, once the first stage has begun, SIGTERM to this process."""
    if asked:
        signal_when_begun(project / "one.pid")
    return supervised(["dvc", "repro"], project, environment(**variables), limit_s, Repro())


def signal_when_begun(file: Path) -> None:
    """SIGTERM to this process as soon as there is something in the file."""

    def wait() -> None:
        while not (file.exists() and file.read_text()):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def has_ended(project: Path, name: str) -> bool:
    """Whether the process of a stage has."""
    return is_gone(int((project / f"{name}.pid").read_text()))


@pytest.mark.parametrize(
    ("shell", "command"),
    [
        ("/bin/bash", "python stage.py one saves"),
        pytest.param("/bin/sh", "true && python stage.py one saves && true", marks=pytest.mark.slow),
    ],
)
def test_who_asks_for_the_end_lets_the_stage_save(tmp_path: Path, shell: str, command: str) -> None:
    project = project_of(tmp_path, command, "python stage.py two dies")
    ended = repro(project, SHELL=shell)
    assert stopped_with(ended) == "saved at step 7"
    assert has_ended(project, "one")
    assert not (project / "two.pid").exists()


def test_a_stage_that_has_nothing_to_save_is_stopped_too(tmp_path: Path) -> None:
    assert stopped_with(repro(project_of(tmp_path, "python stage.py one dies")))


def test_a_stage_that_could_not_save_has_failed(tmp_path: Path) -> None:
    ended = repro(project_of(tmp_path, "python stage.py one 'cannot save'"))
    assert ended.exit_status == 255
    assert stopped_with(ended) == ""


def test_where_the_stage_ends_well_all_the_same_the_next_one_is_asked(tmp_path: Path) -> None:
    project = project_of(tmp_path, "python stage.py one 'ends well'", "python stage.py two saves")
    assert stopped_with(repro(project))
    assert not (project / "two.pid").exists() or has_ended(project, "two")


def test_a_stage_that_stands_still_is_ended_even_if_it_does_not_listen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GRACE_S", 1.0)
    project = project_of(tmp_path, "python stage.py one 'listens to nobody'")
    began = time.monotonic()
    ended = repro(project, limit_s=3, asked=False)
    assert ended.exit_status == 1
    assert "has not got on" in ended.said
    assert stopped_with(ended) == ""
    assert time.monotonic() - began < 30
    assert has_ended(project, "one")


WRITES = """
import time
with open("file", "wb") as file:
    for _ in range(12):
        file.write(bytes(1 << 20))
        time.sleep(0.2)
"""


def test_bytes_that_pass_are_movement_without_a_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITES]
    assert supervised(command, tmp_path, os.environ, 1.0, Push()).exit_status == 0
    assert supervised(command, tmp_path, os.environ, 1.0, Manner()).exit_status == 1


def test_those_of_a_stage_are_not(tmp_path: Path) -> None:
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WRITES!r}])"
    assert supervised([sys.executable, "-c", code], tmp_path, os.environ, 1.0, Push()).exit_status == 1


def test_a_push_goes_on_where_the_job_is_to_stop(tmp_path: Path) -> None:
    signal_when_begun(tmp_path / "begun")
    ended = supervised(["sh", "-c", "echo 1 > begun; sleep 1; echo sent"], tmp_path, os.environ, 60, Push())
    assert (ended.exit_status, ended.said, ended.asked) == (0, "sent", True)


def test_a_push_that_sends_nothing_is_ended_and_says_so(tmp_path: Path) -> None:
    ended = supervised(["sleep", "60"], tmp_path, os.environ, 0.6, Push())
    assert ended.exit_status == 1
    assert ended.said.startswith("`dvc push` has sent nothing for 0.01 minutes")


@pytest.mark.slow
def test_the_cache_is_one_of_the_machines_for_each_remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINES_CACHE", str(tmp_path / "cache"))
    caches = []
    for name, remote in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / name / ".dvc").mkdir(parents=True)
        config = f"""
            [core]
                no_scm = true
                remote = store
            ['remote "store"']
                url = ../../{remote}
            """
        (tmp_path / name / ".dvc/config").write_text(textwrap.dedent(config))
        keep_cache(tmp_path / name, environment())
        caches.append((tmp_path / name / ".dvc/config.local").read_text().split("dir = ")[1].strip())
    assert caches[0] == caches[1] != caches[2]
    assert all(Path(cache).parent == tmp_path / "cache" for cache in caches)


def test_a_cache_that_the_commit_names_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINES_CACHE", str(tmp_path / "cache"))
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n[cache]\n    dir = ../shared\n")
    keep_cache(tmp_path, environment())
    assert not (tmp_path / ".dvc/config.local").exists()
