"""The loop of a worker in this process: resume, length, checkpoints, history, health."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.cluster import loop as loop_module
from pipelines.cluster.events import Measured, Started, Unusual
from pipelines.cluster.job import Job, Place
from pipelines.cluster.loop import Loop
from pipelines.cluster.not_finite import NotFinite
from pipelines.cluster.record import Platform, Record
from pipelines.data.dataset import open_split
from pipelines.errors import CheckpointError
from pipelines.runs.checkpoint import newest_checkpoint, save_checkpoint


class Killed(Exception):
    """Stands for kill -9: nothing is done after it."""


def kill_at(lab: Any, job: Job, step: int) -> None:
    """Run a loop that dies right after update number `step`, before anything that is due then."""
    loop = lab.loop(job)
    after_step = loop._after_step

    def dying(done: int, heard: Any) -> None:
        if done == step:
            raise Killed
        after_step(done, heard)

    loop._after_step = dying
    with pytest.raises(Killed):
        loop.run()


def folders(job: Job) -> list[str]:
    return sorted(path.name for path in job.run.folder.iterdir() if path.is_dir())


def test_a_run_that_is_killed_again_and_again_ends_in_the_same_bits(lab: Any) -> None:
    """Saves are due after 3, 6 and 9 of 10 steps, points after 4 and 8, bounds after 5 and 10."""
    undisturbed, killed = lab.job("undisturbed"), lab.job("killed")
    lab.run(undisturbed)
    starts = []
    for step in (2, 4, 6, 7, 9, 10):
        kill_at(lab, killed, step)
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
    kill_at(lab, job, 8)
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
    kill_at(lab, lab.job("b", **changes), 7)
    lab.run(lab.job("b", **changes))
    assert lab.digest(lab.job("a", **changes)) == lab.digest(lab.job("b", **changes))


@pytest.mark.parametrize("log_every", [1, 4, 100])
def test_a_loss_that_is_not_finite(lab: Any, monkeypatch: pytest.MonkeyPatch, log_every: int) -> None:
    """Found when logging, and before a checkpoint that is due earlier."""
    job = lab.job(learning_rate=1.0, clip_norm=None, warmup_steps=0, steps=400, log_every=log_every)
    poison_losses(monkeypatch, [6], not_finite)
    with pytest.raises(NotFinite) as caught:
        lab.run(job)
    message = str(caught.value)
    assert "at step 7 is not finite" in message
    assert "the last good checkpoint is step 6" in message
    assert "the loss of 1 of 16 training images" in message
    assert " at t = " in message
    assert "train.learning_rate (it is 1)" in message
    assert (job.run.folder / "unusual" / "step-00000007.json").exists()
    newest, _ = newest_checkpoint(job.run)
    assert newest is not None
    assert newest.step == 6


def not_finite(loss: torch.Tensor, here: torch.Tensor) -> torch.Tensor:
    return loss + torch.where(here, torch.nan, 0.0)


def poison_losses(monkeypatch: pytest.MonkeyPatch, steps: Sequence[int], change: Any) -> None:
    """`change` losses, told where one image of the third virtual shard is, at some steps (counted from 0)."""
    real = loop_module.make_objective

    def poisoned(*args: Any) -> Any:
        objective = real(*args)
        loss, eps = objective.loss, [objective.minibatches.of(step, [2]).eps[1] for step in steps]

        def poison(net: Any, batch: Any) -> Any:
            found = loss(net, batch)
            here = torch.stack([(batch.eps == each).flatten(1).all(dim=1) for each in eps]).any(dim=0)
            return found._replace(loss=change(found.loss, here))

        object.__setattr__(objective, "loss", poison)
        return objective

    monkeypatch.setattr(loop_module, "make_objective", poisoned)


def test_a_bad_step_is_left_out_and_its_images_listed(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With patience for two, one bad step is a warning; killed and resumed, the run ends in the same bits."""
    calm, killed = (lab.job(name, stop_after_bad_steps=2) for name in ("calm", "killed"))
    poison_losses(monkeypatch, [6], not_finite)
    events = lab.run(calm)
    unusual = [event for event in events if isinstance(event, Unusual)]
    assert [(event.step, event.kind) for event in unusual] == [(7, "not finite")]
    content = json.loads(Path(unusual[0].file).read_text())
    assert (content["step"], content["kind"], content["loss"]) == (7, "not finite", "nan")
    assert len(content["images"]) == 16
    bad, *others = content["images"]
    assert bad["loss"] == "nan"
    assert 1 <= bad["t"] <= 20
    assert bad["id"] == open_split(lab.prepared, "train").ids[bad["index"]]
    assert all(isinstance(each["loss"], float) for each in others)
    kill_at(lab, killed, 8)
    lab.run(killed)
    assert lab.digest(killed) == lab.digest(calm)


def test_a_row_of_bad_steps_goes_on_over_a_checkpoint(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Updates 5 to 7 are bad, and a checkpoint is due after 6: a run that is killed then stops where the other does."""
    messages = []
    poison_losses(monkeypatch, [4, 5, 6], not_finite)
    for name in ("calm", "killed"):
        job = lab.job(name, stop_after_bad_steps=3)
        if name == "killed":
            kill_at(lab, job, 7)
        with pytest.raises(NotFinite, match=r"step 5 and the 2 after it .* checkpoint is step 6") as caught:
            lab.run(job)
        messages.append(str(caught.value).replace(str(job.run), ""))
    assert messages[0] == messages[1]


def test_a_spike_is_listed_and_training_goes_on(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss a thousand times the others', once the curve has twenty points."""
    poison_losses(monkeypatch, [24], lambda loss, here: loss * torch.where(here, 1000.0, 1.0))
    events = lab.run(lab.job(steps=26, log_every=1))
    (spike,) = [event for event in events if isinstance(event, Unusual)]
    assert (spike.step, spike.kind) == (25, "spike")
    assert spike.loss > 3 * spike.usual
    images = json.loads(Path(spike.file).read_text())["images"]
    assert images[0]["loss"] > 100 * images[1]["loss"]


def test_a_list_that_cannot_be_written_stops_nothing_and_hides_nothing(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spike at update 25, and a bad step after it; a file is where the folder of the lists would be."""
    poison_losses(monkeypatch, [24], lambda loss, here: loss * torch.where(here, 1000.0, 1.0))
    poison_losses(monkeypatch, [25], not_finite)
    job, events = lab.job(steps=30, log_every=1), []
    job.run.note("unusual", b"")
    with pytest.raises(NotFinite, match="at step 26 is not finite"):
        lab.loop(job, events).run()
    told = [(event.step, event.file) for event in events if isinstance(event, Unusual)]
    assert [step for step, _ in told] == [25, 26]
    assert all(re.match(r"not written: .*unusual.*File exists", file) for _, file in told)


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
