"""A file system that gives an error: damage where it says so of the file, else nothing is known and nothing touched."""

import errno
import os
from pathlib import Path

import pytest

from pipelines.errors import CheckpointError, StoreError
from pipelines.runs.checkpoint import newest_checkpoint, prune
from tests import limits

LOST = [number for number, name in errno.errorcode.items() if name in ("EIO", "EBADMSG", "EUCLEAN")]
UNANSWERED = [errno.EACCES, errno.EMFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT]


@pytest.fixture
def run(local_run):
    return local_run


def refuse_to_open(monkeypatch, newer, number):
    """The system's answer for one file of a checkpoint is this error."""
    real = Path.open

    def refusing(path, *args, **options):
        if (path.parent.name, path.name) == (newer, "weights.safetensors"):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *args, **options)

    monkeypatch.setattr(Path, "open", refusing)


@pytest.mark.parametrize("number", LOST, ids=errno.errorcode.get)
def test_what_a_disk_has_lost_is_damage(run, save, same, monkeypatch, number):
    save(250)
    refuse_to_open(monkeypatch, save(500), number)
    checkpoint, skipped = newest_checkpoint(run)
    assert same(checkpoint, 250)
    assert skipped[0].reason == f"weights.safetensors cannot be read: {os.strerror(number)}"


@pytest.mark.parametrize("number", UNANSWERED, ids=errno.errorcode.get)
def test_what_a_system_does_not_answer_is_no_damage(run, save, same, monkeypatch, number):
    """Else training would begin anew, and a save would remove what is there."""
    save(250)
    newer = save(500)
    with monkeypatch.context() as patch:
        refuse_to_open(patch, newer, number)
        for call in (lambda: newest_checkpoint(run), lambda: save(500), lambda: prune(run, 2)):
            with pytest.raises(StoreError, match=rf"{newer}/weights\.safetensors could not be read: ") as caught:
                call()
            assert os.strerror(number) in str(caught.value)
    assert same(newest_checkpoint(run)[0], 500)


def test_a_process_that_may_open_no_more_files_knows_nothing(run, save):
    name = save(250)
    for call in (run.names, lambda: run.read(name, "state.json"), lambda: run.measure(name, "state.json")):
        with limits.open_files(0), pytest.raises(StoreError, match=r"run.* could not be read: Too many open files"):
            call()
    assert run.names() == [name]


def test_pruning_meets_the_same_errors(run, save, monkeypatch):
    """A checkpoint whose time is not known is not taken for the oldest."""
    name = save(250)

    def stale(path, *args, **options):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", stale)
        with pytest.raises(StoreError, match=r"manifest\.json could not be read: Stale file handle"):
            run.saved_at(name)
    monkeypatch.setattr(Path, "glob", stale)
    with pytest.raises(CheckpointError, match="Stale file handle"):
        run.sweep()
    assert run.saved_at("step-00000500") == 0
