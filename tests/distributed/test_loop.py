"""The loop of a worker in this process: resume, length, checkpoints, history, health."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.cluster import loop as loop_module
from pipelines.cluster.events import Measured, Started
from pipelines.cluster.job import Job, Place
from pipelines.cluster.loop import Loop
from pipelines.cluster.record import Platform, Record
from pipelines.errors import CheckpointError
from pipelines.runs.checkpoint import newest_checkpoint, save_checkpoint


def folders(job: Job) -> list[str]:
    return sorted(path.name for path in job.run.folder.iterdir() if path.is_dir())


def test_a_run_that_is_killed_again_and_again_ends_in_the_same_bits(lab: Any) -> None:
    """Saves are due after 3, 6 and 9 of 10 steps, points after 4 and 8, bounds after 5 and 10."""
    undisturbed, killed = lab.job("undisturbed"), lab.job("killed")
    lab.run(undisturbed)
    starts = []
    for step in (2, 4, 6, 7, 9, 10):
        lab.kill_at(killed, step)
        newest, _ = newest_checkpoint(killed.run)
        starts.append(newest.step if newest else 0)
    torch.manual_seed(99)
    events = lab.run(killed)
    assert starts == [0, 3, 3, 6, 6, 9]
    assert events[0].step == 9
    assert lab.digest(killed) == lab.digest(undisturbed)
    assert lab.final(killed).state["final_bound"] == lab.final(undisturbed).state["final_bound"]
    assert lab.final(killed).state["resumed_from"] == [3, 6, 9]  # an attempt that saved nothing left no trace


def test_history_and_events(lab: Any) -> None:
    events = lab.run(lab.job())
    assert isinstance(events[0], Started)
    assert (events[0].step, events[0].workers, events[0].skipped, events[0].points) == (0, 1, (), ())
    points = [event.point for event in events if isinstance(event, Measured)]
    assert [(type(p).__name__, p.step) for p in points] == [
        ("LossPoint", 4),
        ("BoundPoint", 4),
        ("BoundPoint", 5),
        ("LossPoint", 8),
        ("BoundPoint", 8),
        ("BoundPoint", 10),
    ]
    loss, running, validation = points[:3]
    assert loss.learning_rate == 0.01
    assert (running.source, validation.source) == ("running", "validation")
    for point in (running, validation):
        assert point.total == point.L_T + point.L_t_sum + point.L_0
        assert sum(point.bins) == pytest.approx(point.L_t_sum)
        assert point.total_se > 0
    resumed = lab.run(lab.job(steps=12))
    assert resumed[0].points == (points[0], points[3], points[1], points[4], points[2], points[5])


def test_a_longer_run_goes_on_to_the_bits_of_one_of_that_length(lab: Any) -> None:
    """The shorter one's bound at its end, after step 7, must not show in the longer one's history."""
    for steps in (7, 10):
        lab.run(lab.job("grown", steps=steps))
    lab.run(lab.job("at once"))
    assert lab.digest(lab.job("grown")) == lab.digest(lab.job("at once"))
    assert lab.final(lab.job("grown", steps=7)).state["final_bound"]["step"] == 7


@pytest.mark.parametrize(("steps", "start"), [(9, 9), (8, 0)])
def test_fewer_steps_than_the_run_has_reached(lab: Any, steps: int, start: int) -> None:
    """Never a longer run's weights: the shorter length goes on from the newest checkpoint not beyond it."""
    lab.run(lab.job("long"))
    events = lab.run(lab.job("long", steps=steps))
    lab.run(lab.job("short", steps=steps))
    assert events[0].step == start
    assert lab.digest(lab.job("long", steps=steps)) == lab.digest(lab.job("short", steps=steps))
    assert lab.final(lab.job("long")).step == 10


@pytest.mark.parametrize(
    ("steps", "kept"), [(10, ["step-00000009", "step-00000010-final"]), (9, ["step-00000006", "step-00000009-final"])]
)
def test_checkpoints_that_are_kept(lab: Any, steps: int, kept: list[str]) -> None:
    job = lab.job(steps=steps)
    lab.run(job)
    assert folders(job) == kept


def test_no_worker_looks_for_checkpoints_before_worker_0_may_write(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then a worker of a driver that was killed may save; here it does so while worker 1 waits for worker 0."""
    job = lab.job(steps=3)
    waiting = Loop(job, Place(1, 2, torch.device("cpu")), print)

    def all_at(number: int, place: Place) -> list[int]:
        if place.workers == 2 and not job.run.names():
            lab.run(job)
        return [number] * place.workers

    monkeypatch.setattr(loop_module, "_gathered", all_at)
    waiting._resume()
    assert waiting._trainer.state.step == 3


def test_a_damaged_checkpoint_is_skipped_with_its_reason(lab: Any) -> None:
    job = lab.job("damaged")
    lab.kill_at(job, 8)
    path = job.run.folder / "step-00000006" / "optimizer.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    events = lab.run(job)
    assert events[0].step == 3
    assert len(events[0].skipped) == 1
    assert "step-00000006" in events[0].skipped[0]
    assert "optimizer.safetensors" in events[0].skipped[0]
    lab.run(lab.job("whole"))
    assert lab.digest(job) == lab.digest(lab.job("whole"))


def test_microbatches_dropout_and_flips_off_and_fast(lab: Any) -> None:
    """Other parameters, same promise."""
    changes: dict[str, Any] = {"reduction": "fast", "microbatch": 2, "model": {"dropout": 0.0}, "clip_norm": None}
    lab.run(lab.job("a", **changes))
    lab.kill_at(lab.job("b", **changes), 7)
    lab.run(lab.job("b", **changes))
    assert lab.digest(lab.job("a", **changes)) == lab.digest(lab.job("b", **changes))


def test_a_checkpoint_of_another_process_is_refused(lab: Any) -> None:
    job = lab.job(steps=3)
    lab.run(job)
    newest, _ = newest_checkpoint(job.run)
    assert newest is not None
    for fact, value, shown in (("T", 1000, "T is 1000, this run's is 20"), ("shape", [3, 32, 32], "shape is")):
        other = lab.job(f"other-{fact}", steps=3)
        groups = {group: newest.load(group) for group in ("weights", "ema", "optimizer", "history")}
        save_checkpoint(other.run, 2, groups, {**newest.state, fact: value})
        with pytest.raises(CheckpointError, match=f"belongs to another run: its {shown}"):
            lab.run(other)


def test_no_validation_images(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "make_validation", lambda *args: None)
    job = lab.job(steps=5)
    lab.run(job)
    assert lab.final(job).state["final_bound"] is None
    assert len(lab.final(job).load("history")["bounds"]) == 0


def test_the_record_survives_as_json_and_lists_platforms() -> None:
    record = Record("key", "data", (1, 8, 8), 20, 4, "strict", (Platform(0, "2.15", "2.5", "cpu AVX2"),))
    state = json.loads(json.dumps(record.to_state(10, 16, None)))
    assert (state["step"], state["samples_seen"]) == (10, 160)
    assert Record.from_state(state) == record
    assert record.resumed(6, Platform(0, "2.15", "2.5", "cpu AVX2")).platforms == record.platforms
    moved = record.resumed(6, Platform(0, "2.16", "2.5", "cpu AVX2")).resumed(9, Platform(0, "2.16", "2.5", "cpu AVX2"))
    assert moved.platforms == (Platform(0, "2.15", "2.5", "cpu AVX2"), Platform(6, "2.16", "2.5", "cpu AVX2"))
    assert moved.resumed_from == (6, 9)
    with pytest.raises(CheckpointError, match="lacks what training needs: 'key'"):
        Record.from_state({})


def test_another_platform_is_told(lab: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    job = lab.job(steps=3)
    lab.run(job)
    record = Record.from_state(lab.final(job).state)
    other = Record(**{**record.__dict__, "platforms": (Platform(0, "3.0", "9.0", "tpu"),)})
    monkeypatch.setattr(loop_module, "make_record", lambda *args: other)
    events = lab.run(lab.job(steps=4))
    assert "goes on with torch 3.0 and numpy 9.0 on tpu: its bits are no longer those" in events[0].notes[0]
    assert [p["device"] for p in lab.final(lab.job(steps=4)).state["platforms"]] == [record.platforms[0].device, "tpu"]
