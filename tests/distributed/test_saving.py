"""Checkpoints while training goes on: what a step waits for, and what happens where the disk refuses."""

import os
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
import torch

from pipelines.cluster.events import Advanced, Event, NotSaved, Saved, Told
from pipelines.cluster.saving import Saver
from pipelines.errors import CheckpointError, RunLocked
from pipelines.runs.checkpoint import newest_checkpoint
from pipelines.runs.local import LocalStore
from tests import limits


def test_training_goes_on_while_a_slow_disk_saves(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file takes 0.1 s to sync: steps are done between a save's start and its end, and the bits are the same."""
    calm, slow = lab.job("calm"), lab.job("slow")
    lab.run(calm)
    events: list[Event] = []
    fsync = os.fsync
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: (time.sleep(0.1), fsync(descriptor)))
        lab.loop(slow, events).run()
    saved = [n for n, event in enumerate(events) if event == Saved(3)]
    done = [n for n, event in enumerate(events) if event == Advanced(4)]
    assert len(saved) == 1
    assert saved[0] > done[0], "step 4 was done before the checkpoint of step 3"
    assert lab.digest(slow) == lab.digest(calm)
    assert [event.step for event in events if isinstance(event, Saved)] == [3, 6, 9, 10]


def test_what_is_saved_is_the_state_at_the_start_of_the_save(lab: Any) -> None:
    """Steps that follow change the weights in place, not the copy; the second copy uses the memory of the first."""
    job, go = lab.job(), threading.Event()
    weights = torch.zeros(3)
    saver = Saver(job, lambda event: None)
    saver._thread.submit(go.wait)  # the disk is busy
    saver.start(1, {"weights": {"w": weights}}, {"step": 1})
    weights.fill_(7.0)
    go.set()
    saver.start(2, {"weights": {"w": weights}}, {"step": 2})
    weights.fill_(9.0)
    saver.wait()
    saver.close()
    newest, _ = newest_checkpoint(job.run)
    before, _ = newest_checkpoint(job.run, at_most=1)
    assert newest is not None
    assert before is not None
    assert newest.load("weights")["w"].tolist() == [7.0] * 3
    assert before.load("weights")["w"].tolist() == [0.0] * 3


def test_a_disk_that_refuses_stops_training_and_leaves_the_checkpoints(lab: Any) -> None:
    job = lab.job()
    lab.run(lab.job(steps=4))  # saves after 3 and at its end
    size = max(path.stat().st_size for path in job.run.folder.glob("step-*/*"))
    with limits.file_size(size // 2), pytest.raises(CheckpointError, match=r"could not be written: .*too large"):
        lab.run(job)
    newest, skipped = newest_checkpoint(job.run)
    assert newest is not None
    assert (newest.step, skipped) == (4, [])
    assert not list(job.run.folder.glob(".*tmp"))
    calm = lab.job("calm")
    lab.run(calm)
    lab.run(job)
    assert lab.digest(job) == lab.digest(calm)


def test_or_training_goes_on_and_says_so(lab: Any) -> None:
    """Only the last state must be saved. What was refused before leaves no trace in it."""
    job = replace(lab.job(), continue_unsaved=True)
    events: list[Event] = []
    with limits.file_size(1000), pytest.raises(CheckpointError, match="step-00000010-final could not be written"):
        lab.loop(job, events).run()
    assert [event.step for event in events if isinstance(event, NotSaved)] == [3, 6, 9]
    assert all("could not be written" in event.reason for event in events if isinstance(event, NotSaved))
    assert newest_checkpoint(job.run) == (None, [])
    lab.run(job)
    calm = lab.job("calm")
    lab.run(calm)
    assert lab.digest(job) == lab.digest(calm)


def test_old_checkpoints_that_cannot_be_removed_are_told_and_what_is_saved_counts(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two are kept: after 9 steps, and at the end, older ones are due. A run that was lost is another matter."""
    job, error = lab.job(), CheckpointError("the disk refuses")

    def refuse(run: LocalStore, name: str) -> None:
        raise error

    monkeypatch.setattr(LocalStore, "remove", refuse)
    events = lab.run(job)
    assert [event.step for event in events if isinstance(event, Saved)] == [3, 6, 9, 10]
    told = [event.line for event in events if isinstance(event, Told)]
    assert told == ["warning: old checkpoints could not be removed: the disk refuses"] * 2
    error = RunLocked("another process has it")
    with pytest.raises(RunLocked):
        lab.run(lab.job(steps=11))
