"""Old checkpoints go; what training needs, and what was promised to stay, stays."""

import os
import shutil

import pytest

from pipelines.runs.checkpoint import newest_checkpoint, prune, save_checkpoint
from pipelines.runs.local import LocalStore
from tests.pipelines.runs.raw import names as all_names
from tests.pipelines.runs.raw import next_second


@pytest.fixture
def save(run, raw, save):
    """Saves with other times wherever they count, however coarse the clock is."""
    steps = []

    def save_later(step, final=False):
        if not isinstance(run, LocalStore) and steps and step < max(steps):
            next_second()
        name = save(step, final=final)
        steps.append(step)
        if isinstance(run, LocalStore):
            os.utime(run.folder / name / "manifest.json", (len(steps), len(steps)))
        return name

    return save_later


def names(raw):
    return [name.removeprefix("step-") for name in all_names(raw)]


def test_the_newest_stay(run, raw, save):
    for step in range(1, 6):
        save(step)
    removed = prune(run, keep=2)
    assert removed == ["step-00000001", "step-00000002", "step-00000003"]
    assert names(raw) == ["00000004", "00000005"]
    assert prune(run, keep=2) == []


def test_fewer_than_keep_stay(run, raw, save):
    assert prune(run, keep=3) == []
    save(1)
    assert prune(run, keep=3) == []
    assert names(raw) == ["00000001"]


def test_every_final_one_stays(run, raw, save):
    save(1, final=True)
    save(2)
    save(3, final=True)
    for step in (4, 5, 6):
        save(step)
    prune(run, keep=2)
    assert names(raw) == ["00000001-final", "00000003-final", "00000005", "00000006"]


def test_damaged_ones_do_not_push_out_whole_ones(run, raw, save):
    for step in range(1, 6):
        name = save(step)
        if step > 3:
            raw.write(f"{name}/weights.safetensors", b"damaged")
    prune(run, keep=2)
    assert names(raw) == ["00000002", "00000003", "00000004", "00000005"]
    checkpoint, skipped = newest_checkpoint(run)
    assert checkpoint.step == 3
    assert len(skipped) == 2


def test_a_run_that_goes_on_from_an_earlier_step_keeps_what_it_saves(run, raw, save):
    for step in (30, 35, 40):
        save(step)
    for step in (10, 15, 20):  # asked for 25 steps only, after 40
        save(step)
        prune(run, keep=2)
    assert names(raw) == ["00000015", "00000020", "00000035", "00000040"]
    assert newest_checkpoint(run, at_most=25)[0].step == 20


def leave(raw, run):
    """What a process that was killed while it saved step 3 has left."""
    name = ".step-00000003.0a1b2c3d.tmp" if isinstance(run, LocalStore) else "step-00000003"
    for file in ("weights.safetensors", "ema.safetensors"):
        raw.write(f"{name}/{file}", raw.read(f"step-00000002/{file}"))


def test_leftovers_of_killed_processes_go(run, raw, save):
    for step in (1, 2):
        save(step)
    leave(raw, run)
    raw.write("lock.json", b"")
    raw.write("notes/of-a-person.txt", b"")
    assert newest_checkpoint(run)[0].step == 2
    prune(run, keep=2)
    assert all_names(raw) == ["lock.json", "notes", "step-00000001", "step-00000002"]


def test_leftovers_make_room_for_the_next_save(run, raw, save):
    save(1)
    save(2)
    leave(raw, run)
    save(4)
    assert names(raw) == ["00000001", "00000002", "00000004"]


def test_what_this_process_is_saving_is_no_leftover(run, save, raw):
    """As when another thread prunes in the middle of a save."""
    save(1)
    files = {file: raw.read(f"step-00000001/{file}") for file in ("weights.safetensors", "state.json")}

    def pruning():
        for file in files.items():
            yield file
            prune(run, keep=2)

    run.commit("step-00000002", pruning(), {"step": 2, "final": False})
    assert newest_checkpoint(run)[0].files.keys() == files.keys()


def test_a_removal_that_is_cut_short_shows_no_half_checkpoint(local_run, groups, monkeypatch):
    for step in (1, 2, 3):
        save_checkpoint(local_run, step, groups(step), {})
    monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors: (path / "state.json").unlink(missing_ok=True))
    prune(local_run, keep=2)
    assert newest_checkpoint(local_run, at_most=1) == (None, [])


@pytest.mark.parametrize("keep", [1, 0, -1])
def test_a_single_one_is_not_enough(run, keep):
    with pytest.raises(ValueError, match=f"at least 2.* got {keep}"):
        prune(run, keep=keep)
