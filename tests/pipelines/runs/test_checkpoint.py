"""What was saved comes back to the bit, and what must not be saved is refused."""

import os
import shutil
from collections import namedtuple

import pytest
import torch

from pipelines.errors import CheckpointError
from pipelines.runs.checkpoint import checkpoint_at, newest_checkpoint, save_checkpoint
from pipelines.runs.local import LocalStore
from tests.pipelines.runs.raw import names


def test_round_trip(run, raw, save, same):
    name = save(250)
    checkpoint, skipped = newest_checkpoint(run)
    assert (checkpoint.name, checkpoint.step, checkpoint.final, skipped) == (name, 250, False, [])
    assert checkpoint.place == f"{run}/step-00000250"
    assert checkpoint.state == {"step": 250, "loss": [0.5, 0.25]}
    assert same(checkpoint, 250)
    files = ["ema.safetensors", "manifest.json", "optimizer.safetensors", "state.json", "weights.safetensors"]
    assert raw.files() == [f"step-00000250/{file}" for file in files]


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


def test_a_run_without_checkpoints(run, raw):
    assert newest_checkpoint(run) == (None, [])
    assert checkpoint_at(run, 0) is None
    raw.write("lock.json", b"")
    raw.write("step-notes.txt", b"")
    assert newest_checkpoint(run) == (None, [])


def test_the_checkpoint_of_one_step(run, raw, save, same):
    save(0)
    save(250)
    assert same(checkpoint_at(run, 0), 0)
    assert checkpoint_at(run, 249) is None
    save(250, final=True)
    assert checkpoint_at(run, 250).final
    raw.delete("step-00000250-final/state.json")
    assert not checkpoint_at(run, 250).final


def test_a_final_checkpoint_is_recognised_by_name_and_manifest(run, raw, save):
    save(250)
    assert save(250, final=True) == "step-00000250-final"
    assert newest_checkpoint(run)[0].name == "step-00000250-final"
    raw.remove("step-00000250")
    raw.rename("step-00000250-final", "step-00000250")
    checkpoint, skipped = newest_checkpoint(run)
    assert checkpoint is None
    assert "renamed" in skipped[0].reason


def test_a_folder_under_another_steps_name_is_skipped(run, raw, save):
    save(250)
    raw.rename(save(500), "step-00000750")
    checkpoint, skipped = newest_checkpoint(run)
    assert checkpoint.step == 250
    assert [skip.name for skip in skipped] == ["step-00000750"]


def test_saving_the_same_again_changes_nothing(local_run, groups):
    name = save_checkpoint(local_run, 250, groups(250), {"step": 250})
    folder = local_run.folder / name
    before = {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in folder.iterdir()}
    assert save_checkpoint(local_run, 250, groups(250), {"step": 250}) == name
    assert save_checkpoint(local_run, 250, groups(250), {"restarts": 1}) == name
    assert {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in folder.iterdir()} == before
    assert newest_checkpoint(local_run)[0].state["step"] == 250


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


def test_a_damaged_checkpoint_is_replaced(run, raw, save, same):
    name = save(250)
    raw.write(f"{name}/weights.safetensors", b"")
    raw.write(f"{name}/of_before.safetensors", b"")
    assert newest_checkpoint(run)[0] is None
    assert save(250) == name
    assert same(newest_checkpoint(run)[0], 250)
    assert names(raw) == ["step-00000250"]
    assert len(raw.files()) == 5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_tensors_that_are_not_finite_are_refused_by_name(run, raw, save, groups, value):
    save(250)
    bad = groups(500)
    bad["ema"]["conv.weight"][1] = value
    with pytest.raises(CheckpointError, match=r"ema holds .* not finite.*: conv\.weight \(2 of 6 values\)"):
        save_checkpoint(run, 500, bad, {})
    assert newest_checkpoint(run)[0].step == 250
    assert names(raw) == ["step-00000250"]


def test_a_state_that_json_cannot_hold_is_refused_by_name(run, raw, groups):
    with pytest.raises(CheckpointError, match=r"state cannot be saved: loss\[1\]: nan is not finite"):
        save_checkpoint(run, 1, groups(1), {"loss": [1.0, float("nan")]})
    assert raw.files() == []
    assert not (isinstance(run, LocalStore) and run.folder.exists())


def test_names_that_are_no_file_names_are_refused(run, groups):
    with pytest.raises(ValueError, match=r"got '\.\./weights'"):
        save_checkpoint(run, 1, {"../weights": {}}, {})
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        save_checkpoint(run, -1, groups(1), {})


def test_too_little_space_is_found_before_writing(local_run, groups, monkeypatch):
    save_checkpoint(local_run, 250, groups(250), {})
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
    monkeypatch.setattr(os, "write", lambda *_: pytest.fail("nothing may be written"))
    with pytest.raises(CheckpointError, match=r"needs 1 MB in .*run, and 0 MB are free"):
        save_checkpoint(local_run, 500, groups(500), {})
    assert newest_checkpoint(local_run)[0].step == 250


def test_a_group_that_is_not_there_is_named_with_those_that_are(run, save):
    save(250)
    with pytest.raises(CheckpointError, match="holds no 'momentum'; it has ema, optimizer, weights"):
        newest_checkpoint(run)[0].load("momentum")


def test_damage_after_opening_is_found_when_loading(run, raw, save):
    file = f"{save(250)}/weights.safetensors"
    checkpoint, _ = newest_checkpoint(run)
    raw.write(file, raw.read(file)[:-1] + b"\x01")
    with pytest.raises(CheckpointError, match=r"step-00000250: weights\.safetensors is damaged"):
        checkpoint.load("weights")
    raw.delete(file)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors is missing"):
        checkpoint.load("weights")


def test_reading_needs_the_manifest_only(run, raw, save, same):
    """Files under their last names are no checkpoint before the manifest is there, the last of all."""
    name = save(250)
    files = sorted(raw.files(), key=lambda file: file.endswith("/manifest.json"))
    parts = [(file, raw.read(file)) for file in files]
    raw.remove(name)
    for file, content in parts:
        checkpoint, skipped = newest_checkpoint(run)
        assert checkpoint is None
        if isinstance(run, LocalStore) and (run.folder / name).exists():
            assert skipped[0].reason == "manifest.json is missing: it was never committed"
        else:  # on S3 that is how every save begins
            assert skipped == []
        raw.write(file, content)
    raw.write(f"{name}/.DS_Store", b"")
    assert same(newest_checkpoint(run)[0], 250)
