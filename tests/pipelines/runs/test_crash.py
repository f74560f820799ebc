"""A save that fails or is killed at any moment leaves the old checkpoints whole, and no half of a new one."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pipelines
from pipelines.errors import CheckpointError
from pipelines.runs.checkpoint import newest_checkpoint
from pipelines.runs.commit import make_folder
from pipelines.runs.local import LocalStore


@pytest.fixture
def run(local_run):
    return local_run


CALLS = ("mkdir", "open", "write", "fsync", "rename")
"""What a save asks of the operating system."""


class Disk:
    """Counts the calls that a save makes, and makes one of them fail."""

    def __init__(self, monkeypatch, fail_at=None, error=errno.EIO):
        self.calls = []
        self.names = {}
        self.fail_at, self.error = fail_at, error
        for name in CALLS:
            monkeypatch.setattr(os, name, self.watched(name, getattr(os, name)))

    def watched(self, name, real):
        def call(*arguments, **more):
            path = self.names.get(arguments[0]) or Path(arguments[0])
            self.calls.append((name, path))
            if len(self.calls) - 1 == self.fail_at:
                raise OSError(self.error, os.strerror(self.error), str(path))
            result = real(*arguments, **more)
            if name == "open":
                self.names[result] = path
            return result

        return call


def calls_of_a_save(save):
    with pytest.MonkeyPatch.context() as monkeypatch:
        disk = Disk(monkeypatch)
        save(500)
    return disk.calls


def test_each_file_is_synced_and_the_manifest_is_last(run, save):
    save(250)
    calls = calls_of_a_save(save)
    building = calls[0][1]
    files = ["weights.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json", "manifest.json"]
    written = [(name, building / file) for file in files for name in ("open", "write", "fsync")]
    assert calls == [
        ("mkdir", building),
        *written,
        ("open", building),
        ("fsync", building),
        ("rename", building),
        ("open", run.folder),
        ("fsync", run.folder),
    ]
    assert building.parent == run.folder


def test_a_new_runs_folders_are_synced_into_their_parents(tmp_path, monkeypatch):
    runs = tmp_path / "state" / "runs"
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        make_folder(runs / "key")
    assert disk.calls == [
        (call, path)
        for folder in (tmp_path / "state", runs, runs / "key")
        for call, path in (("mkdir", folder), ("open", folder.parent), ("fsync", folder.parent))
    ]


def test_a_new_runs_folder_is_made_to_last(run, save, tmp_path):
    assert calls_of_a_save(save)[:3] == [("mkdir", run.folder), ("open", tmp_path), ("fsync", tmp_path)]


def test_any_call_may_fail(run, save, same, monkeypatch):
    save(250)
    number = len(calls_of_a_save(save))
    for fail_at in range(number):
        for path in run.folder.glob("step-00000500"):
            path.rename(run.folder.parent / f"saved-before-{fail_at}")
        with monkeypatch.context() as patch:
            Disk(patch, fail_at)
            with pytest.raises(CheckpointError, match=r"step-00000500 could not be written: .*Earlier checkpoints"):
                save(500)
        checkpoint, skipped = newest_checkpoint(run)
        assert skipped == []
        renamed = fail_at >= number - 2  # only the parent's sync is missing: whole, and visible
        assert same(checkpoint, 500 if renamed else 250)
        assert not list(run.folder.glob(".*")), "what was begun is removed, so that a full disk has room again"


def test_a_full_disk_is_named(run, save, monkeypatch):
    save(250)
    Disk(monkeypatch, fail_at=3, error=errno.ENOSPC)
    with pytest.raises(CheckpointError, match="No space left on device"):
        save(500)


def test_a_save_goes_on_after_short_writes(run, save, same, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:7]))
    save(250)
    monkeypatch.undo()
    assert same(newest_checkpoint(run)[0], 250)


def test_an_interrupted_save_leaves_nothing(run, save, monkeypatch):
    """Ctrl-C between two files."""
    save(250)
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save(500)
    assert [path.name for path in run.folder.iterdir()] == ["step-00000250"]


KILLED = '''
"""Save step 500 in one child after the other, each killed before its n-th call to the operating system."""
import os, signal, sys
from pathlib import Path

import torch

from pipelines.runs.checkpoint import save_checkpoint
from pipelines.runs.local import LocalStore

torch.set_num_threads(1)


def tensors(step):
    """As in conftest.py."""
    return {
        "weights": {"conv.weight": torch.full((3, 2), float(step)), "conv.bias": torch.full((3,), float(step))},
        "ema": {"conv.weight": torch.full((3, 2), step / 2), "conv.bias": torch.full((3,), step / 2)},
        "optimizer": {"step": torch.tensor(step)},
    }


def kill_at(number):
    count = 0

    def watched(name, real):
        def call(*arguments, **more):
            nonlocal count
            if count == number:
                if name == "write":  # die in the middle of it
                    real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            return real(*arguments, **more)

        return call

    for name in sys.argv[2].split(","):
        setattr(os, name, watched(name, getattr(os, name)))


for number in range(1000):
    run = LocalStore(Path(sys.argv[1]) / f"run-{number:03d}")
    save_checkpoint(run, 250, tensors(250), {"step": 250})
    child = os.fork()
    if child == 0:
        kill_at(number)
        save_checkpoint(run, 500, tensors(500), {"step": 500})
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == 0:
        break
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, status
'''


def test_any_call_may_be_the_last_of_a_killed_process(tmp_path, save, same):
    project = Path(pipelines.__path__[0]).parent
    subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), ",".join(CALLS)],
        check=True,
        env={**os.environ, "PYTHONPATH": str(project)},
        timeout=120,
    )
    save(250)
    number = len(calls_of_a_save(save))
    runs = sorted(tmp_path.glob("run-*"))
    assert len(runs) == number + 1, "each call was the last once, and then none"
    for fail_at, killed in enumerate(runs):
        checkpoint, skipped = newest_checkpoint(LocalStore(killed))
        assert skipped == []
        assert same(checkpoint, 500 if fail_at >= number - 2 else 250)


def test_the_next_save_after_a_kill_succeeds(tmp_path, save, run, same):
    """The killed process's leftovers stand where it left them, without a manifest or with a whole one."""
    save(250)
    for name, keep in (("0a", 1), ("0b", 9)):
        leftover = run.folder / f".step-00000500.{name}.tmp"
        leftover.mkdir()
        for file in sorted((run.folder / "step-00000250").iterdir())[:keep]:
            (leftover / file.name).write_bytes(file.read_bytes())
    assert newest_checkpoint(run)[0].step == 250
    save(500)
    assert same(newest_checkpoint(run)[0], 500)
