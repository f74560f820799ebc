"""Whatever happens to any file of a checkpoint, the one before it is found, and the reason is given."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.runs.checkpoint import newest_checkpoint

FILES = ["ema.safetensors", "manifest.json", "optimizer.safetensors", "state.json", "weights.safetensors"]


def flip(place: Callable[[int], int]) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[place(len(content))] ^= 1
        file.write_bytes(content)

    return damage


def replace_by_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


DAMAGE = {
    "first bit": flip(lambda size: 0),
    "middle bit": flip(lambda size: size // 2),
    "last bit": flip(lambda size: size - 1),
    "last byte cut off": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "half cut off": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "emptied": lambda file: file.write_bytes(b""),
    "byte added": lambda file: file.write_bytes(file.read_bytes() + b"\n"),
    "zeroed": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "deleted": Path.unlink,
    "a folder in its place": replace_by_folder,
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_the_one_before_is_found_and_the_reason_given(run, save, same, name, damage):
    save(250)
    newer = save(500)
    assert sorted(file.name for file in newer.iterdir()) == FILES
    damage(newer / name)
    checkpoint, skipped = newest_checkpoint(run)
    assert same(checkpoint, 250)
    assert [skip.path for skip in skipped] == [newer]
    assert name in skipped[0].reason


def test_a_file_of_another_step_is_not_taken(run, save, same):
    older, newer = save(250), save(500)
    (newer / "ema.safetensors").write_bytes((older / "ema.safetensors").read_bytes())
    checkpoint, skipped = newest_checkpoint(run)
    assert same(checkpoint, 250)
    assert "ema.safetensors is damaged" in skipped[0].reason


def test_all_damaged_ones_are_listed_newest_first(run, save):
    for step in (250, 500, 750):
        (save(step) / "state.json").unlink()
    checkpoint, skipped = newest_checkpoint(run)
    assert checkpoint is None
    assert [skip.path.name for skip in skipped] == ["step-00000750", "step-00000500", "step-00000250"]


def test_a_file_that_was_cut_off_is_told_from_one_that_changed(run, save):
    save(250)
    file = save(500) / "weights.safetensors"
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-1])
    _, skipped = newest_checkpoint(run)
    assert skipped[0].reason == f"weights.safetensors has {size - 1} bytes, the manifest says {size}"
