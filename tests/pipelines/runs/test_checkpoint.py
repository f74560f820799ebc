"""What was saved comes back to the bit, and what must not be saved is refused."""

import os
import shutil
from collections import namedtuple

import pytest
import torch

from pipelines.errors import CheckpointError
from pipelines.runs.checkpoint import checkpoint_at, newest_checkpoint, save_checkpoint


def test_round_trip(run, save, same):
    path = save(250)
    checkpoint, skipped = newest_checkpoint(run)
    assert (checkpoint.path, checkpoint.step, checkpoint.final, skipped) == (path, 250, False, [])
    assert checkpoint.state == {"step": 250, "loss": [0.5, 0.25]}
    assert same(checkpoint, 250)
    assert sorted(file.name for file in run.iterdir()) == ["step-00000250"]
    assert sorted(file.name for file in path.iterdir()) == [
        "ema.safetensors",
        "manifest.json",
        "optimizer.safetensors",
        "state.json",
        "weights.safetensors",
    ]


def test_every_kind_of_tensor_comes_back(run):
    shared = torch.arange(6.0)
    tensors = {
        "bfloat16": torch.tensor([1.0, -2.0], dtype=torch.bfloat16),
        "float64": torch.tensor([torch.pi], dtype=torch.float64),
        "tiny": torch.tensor([1e-45, -0.0]),
        "int64": torch.tensor([2**62]),
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(7.0),
        "empty": torch.empty(0, 3),
        "transposed": shared.view(2, 3).t(),
        "channels_last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "view": shared[2:],
        "tied": shared,
        "tied again": shared,
        "gradient": torch.nn.Parameter(torch.ones(2)),
    }
    save_checkpoint(run, 1, {"weights": tensors}, {})
    loaded = newest_checkpoint(run)[0].load("weights")
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)
        assert not loaded[name].requires_grad
    assert torch.signbit(loaded["tiny"][1])
    loaded["tied"].zero_()
    assert loaded["tied again"].sum() == 15


def test_the_newest_counts_and_at_most_limits_it(run, save):
    for step in (750, 250, 500):
        save(step)
    assert newest_checkpoint(run)[0].step == 750
    assert newest_checkpoint(run, at_most=750)[0].step == 750
    assert newest_checkpoint(run, at_most=749)[0].step == 500
    assert newest_checkpoint(run, at_most=249) == (None, [])


def test_steps_are_ordered_as_numbers(run, save):
    save(99_999_999)
    save(100_000_000)
    assert newest_checkpoint(run)[0].step == 100_000_000


def test_a_run_without_checkpoints(run):
    assert newest_checkpoint(run) == (None, [])
    assert checkpoint_at(run, 0) is None
    run.mkdir()
    (run / "lock.json").touch()
    (run / "step-notes.txt").touch()
    assert newest_checkpoint(run) == (None, [])


def test_the_checkpoint_of_one_step(run, save, same):
    save(0)
    save(250)
    assert same(checkpoint_at(run, 0), 0)
    assert checkpoint_at(run, 249) is None
    save(250, final=True)
    assert checkpoint_at(run, 250).final
    (run / "step-00000250-final" / "state.json").unlink()
    assert not checkpoint_at(run, 250).final


def test_a_final_checkpoint_is_recognised_by_name_and_manifest(run, save):
    save(250)
    path = save(250, final=True)
    assert path.name == "step-00000250-final"
    assert newest_checkpoint(run)[0].path == path
    shutil.rmtree(run / "step-00000250")
    path.rename(run / "step-00000250")
    checkpoint, skipped = newest_checkpoint(run)
    assert checkpoint is None
    assert "renamed" in skipped[0].reason


def test_a_folder_under_another_steps_name_is_skipped(run, save):
    save(250)
    save(500).rename(run / "step-00000750")
    checkpoint, skipped = newest_checkpoint(run)
    assert checkpoint.step == 250
    assert [skip.path.name for skip in skipped] == ["step-00000750"]


def test_saving_the_same_again_changes_nothing(run, save, groups):
    path = save(250)
    before = {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in path.iterdir()}
    assert save(250) == path
    assert save_checkpoint(run, 250, groups(250), {"restarts": 1}) == path
    assert {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in path.iterdir()} == before
    assert newest_checkpoint(run)[0].state["step"] == 250


def test_saving_other_tensors_for_a_saved_step_is_refused(run, save, groups, same):
    save(250)
    other = groups(250)
    other["ema"]["conv.bias"][0] += 1
    with pytest.raises(CheckpointError, match=r"step-00000250 is saved already and differs .* in ema\.safetensors"):
        save_checkpoint(run, 250, other, {})
    del other["ema"]
    with pytest.raises(CheckpointError, match=r"ema\.safetensors"):
        save_checkpoint(run, 250, other, {})
    assert same(newest_checkpoint(run)[0], 250)


def test_a_damaged_checkpoint_is_replaced(run, save, same):
    path = save(250)
    (path / "weights.safetensors").write_bytes(b"")
    assert newest_checkpoint(run)[0] is None
    assert save(250) == path
    assert same(newest_checkpoint(run)[0], 250)
    assert [file.name for file in run.iterdir()] == ["step-00000250"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_tensors_that_are_not_finite_are_refused_by_name(run, save, groups, value):
    save(250)
    bad = groups(500)
    bad["ema"]["conv.weight"][1] = value
    with pytest.raises(CheckpointError, match=r"ema holds .* not finite.*: conv\.weight \(2 of 6 values\)"):
        save_checkpoint(run, 500, bad, {})
    assert newest_checkpoint(run)[0].step == 250
    assert [file.name for file in run.iterdir()] == ["step-00000250"]


def test_a_state_that_json_cannot_hold_is_refused_by_name(run, groups):
    with pytest.raises(CheckpointError, match=r"state cannot be saved: loss\[1\]: nan is not finite"):
        save_checkpoint(run, 1, groups(1), {"loss": [1.0, float("nan")]})
    assert not run.exists()


def test_names_that_are_no_file_names_are_refused(run, groups):
    with pytest.raises(ValueError, match=r"got '\.\./weights'"):
        save_checkpoint(run, 1, {"../weights": {}}, {})
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        save_checkpoint(run, -1, groups(1), {})


def test_too_little_space_is_found_before_writing(run, save, groups, monkeypatch):
    save(250)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
    monkeypatch.setattr(os, "write", lambda *_: pytest.fail("nothing may be written"))
    with pytest.raises(CheckpointError, match=r"needs 1 MB in .*run, and 0 MB are free"):
        save_checkpoint(run, 500, groups(500), {})
    assert newest_checkpoint(run)[0].step == 250


def test_a_group_that_is_not_there_is_named_with_those_that_are(run, save):
    save(250)
    with pytest.raises(CheckpointError, match="holds no 'momentum'; it has ema, optimizer, weights"):
        newest_checkpoint(run)[0].load("momentum")


def test_damage_after_opening_is_found_when_loading(run, save):
    save(250)
    checkpoint, _ = newest_checkpoint(run)
    file = checkpoint.path / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointError, match=r"step-00000250: weights\.safetensors is damaged"):
        checkpoint.load("weights")
    file.unlink()
    with pytest.raises(CheckpointError, match=r"weights\.safetensors is missing"):
        checkpoint.load("weights")


def test_reading_needs_the_manifest_only(run, save, same):
    """A store without renames writes the files under their last names, and the manifest after them."""
    source = save(250)
    files = sorted(source.iterdir(), key=lambda file: file.name == "manifest.json")
    parts = [(file.name, file.read_bytes()) for file in files]
    shutil.rmtree(source)
    source.mkdir()
    for name, content in parts:
        checkpoint, skipped = newest_checkpoint(run)
        assert checkpoint is None
        assert skipped[0].reason == "manifest.json is missing: it was never committed"
        (source / name).write_bytes(content)
    (source / ".DS_Store").touch()
    assert same(newest_checkpoint(run)[0], 250)
