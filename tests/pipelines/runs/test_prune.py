"""Old checkpoints go; what training needs, and what was promised to stay, stays."""

import os
import shutil

import pytest

from pipelines.runs.checkpoint import newest_checkpoint, prune


@pytest.fixture
def save(save):
    """Saves with times one second apart, however coarse the file system's clock is."""
    count = 0

    def save_later(step, final=False):
        nonlocal count
        path = save(step, final=final)
        count += 1
        os.utime(path / "manifest.json", (count, count))
        return path

    return save_later


def names(run):
    return sorted(path.name.removeprefix("step-") for path in run.iterdir())


def test_the_newest_stay(run, save):
    for step in range(1, 6):
        save(step)
    removed = prune(run, keep=2)
    assert [path.name for path in removed] == ["step-00000001", "step-00000002", "step-00000003"]
    assert names(run) == ["00000004", "00000005"]
    assert prune(run, keep=2) == []


def test_fewer_than_keep_stay(run, save):
    save(1)
    assert prune(run, keep=3) == []
    assert names(run) == ["00000001"]
    assert prune(run / "absent", keep=3) == []


def test_every_final_one_stays(run, save):
    save(1, final=True)
    save(2)
    save(3, final=True)
    for step in (4, 5, 6):
        save(step)
    prune(run, keep=2)
    assert names(run) == ["00000001-final", "00000003-final", "00000005", "00000006"]


def test_damaged_ones_do_not_push_out_whole_ones(run, save):
    for step in range(1, 6):
        path = save(step)
        if step > 3:
            (path / "weights.safetensors").write_bytes(b"damaged")
    prune(run, keep=2)
    assert names(run) == ["00000002", "00000003", "00000004", "00000005"]
    checkpoint, skipped = newest_checkpoint(run)
    assert checkpoint.step == 3
    assert len(skipped) == 2


def test_a_run_that_goes_on_from_an_earlier_step_keeps_what_it_saves(run, save):
    for step in (30, 35, 40):
        save(step)
    for step in (10, 15, 20):  # asked for 25 steps only, after 40
        save(step)
        prune(run, keep=2)
    assert names(run) == ["00000015", "00000020", "00000035", "00000040"]
    assert newest_checkpoint(run, at_most=25)[0].step == 20


def test_leftovers_of_killed_processes_go(run, save):
    for step in (1, 2):
        save(step)
    shutil.copytree(run / "step-00000002", run / ".step-00000003.0a1b2c3d.tmp")
    (run / "lock.json").touch()
    assert newest_checkpoint(run)[0].step == 2
    prune(run, keep=2)
    assert sorted(path.name for path in run.iterdir()) == ["lock.json", "step-00000001", "step-00000002"]


def test_leftovers_make_room_for_the_next_save(run, save):
    save(1)
    shutil.copytree(run / "step-00000001", run / ".step-00000002.0a1b2c3d.tmp")
    save(2)
    assert names(run) == ["00000001", "00000002"]


def test_a_removal_that_is_cut_short_shows_no_half_checkpoint(run, save, monkeypatch):
    for step in (1, 2, 3):
        save(step)
    monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors: (path / "state.json").unlink(missing_ok=True))
    prune(run, keep=2)
    assert newest_checkpoint(run, at_most=1) == (None, [])


@pytest.mark.parametrize("keep", [1, 0, -1])
def test_a_single_one_is_not_enough(run, keep):
    with pytest.raises(ValueError, match=f"at least 2.* got {keep}"):
        prune(run, keep=keep)
