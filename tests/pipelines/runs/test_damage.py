"""Whatever happens to any file of a checkpoint, the one before it is found, and the reason is given."""

from collections.abc import Callable

import pytest

from pipelines.runs.checkpoint import newest_checkpoint
from pipelines.runs.s3 import S3Store
from tests.pipelines.runs.raw import Raw

FILES = ["ema.safetensors", "manifest.json", "optimizer.safetensors", "state.json", "weights.safetensors"]
Change = Callable[[Raw, str], None]


def change(to: Callable[[bytes], bytes]) -> Change:
    return lambda raw, file: raw.write(file, to(raw.read(file)))


def flip(place: Callable[[int], int]) -> Change:
    def damage(content: bytes) -> bytes:
        damaged = bytearray(content)
        damaged[place(len(content))] ^= 1
        return bytes(damaged)

    return change(damage)


def delete(raw: Raw, file: str) -> None:
    raw.delete(file)


def replace_by_folder(raw: Raw, file: str) -> None:
    raw.delete(file)
    raw.write(f"{file}/inside", b"")


DAMAGE = {
    "first bit": flip(lambda size: 0),
    "middle bit": flip(lambda size: size // 2),
    "last bit": flip(lambda size: size - 1),
    "last byte cut off": change(lambda content: content[:-1]),
    "half cut off": change(lambda content: content[: len(content) // 2]),
    "emptied": change(lambda content: b""),
    "byte added": change(lambda content: content + b"\n"),
    "zeroed": change(lambda content: bytes(len(content))),
    "deleted": delete,
    "a folder in its place": replace_by_folder,
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_the_one_before_is_found_and_the_reason_given(run, raw, save, same, name, damage):
    save(250)
    newer = save(500)
    assert [file for file in raw.files() if file.startswith(newer)] == [f"{newer}/{file}" for file in FILES]
    damage(raw, f"{newer}/{name}")
    checkpoint, skipped = newest_checkpoint(run)
    assert same(checkpoint, 250)
    if isinstance(run, S3Store) and name == "manifest.json" and damage in (delete, replace_by_folder):
        assert skipped == []  # without its manifest it is not there
        return
    assert [skip.name for skip in skipped] == [newer]
    assert name in skipped[0].reason


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [DAMAGE["middle bit"], delete], ids=["middle bit", "deleted"])
def test_it_is_saved_anew_over_the_damage(run, raw, save, same, name, damage):
    save(250)
    newer = save(500)
    damage(raw, f"{newer}/{name}")
    assert save(500) == newer
    checkpoint, skipped = newest_checkpoint(run)
    assert (same(checkpoint, 500), skipped) == (True, [])


def test_a_file_of_another_step_is_not_taken(run, raw, save, same):
    older, newer = save(250), save(500)
    raw.write(f"{newer}/ema.safetensors", raw.read(f"{older}/ema.safetensors"))
    checkpoint, skipped = newest_checkpoint(run)
    assert same(checkpoint, 250)
    assert "ema.safetensors is damaged" in skipped[0].reason


def test_all_damaged_ones_are_listed_newest_first(run, raw, save):
    for step in (250, 500, 750):
        raw.delete(f"{save(step)}/state.json")
    checkpoint, skipped = newest_checkpoint(run)
    assert checkpoint is None
    assert [skip.name for skip in skipped] == ["step-00000750", "step-00000500", "step-00000250"]


def test_a_file_that_was_cut_off_is_told_from_one_that_changed(run, raw, save):
    save(250)
    file = f"{save(500)}/weights.safetensors"
    content = raw.read(file)
    raw.write(file, content[:-1])
    _, skipped = newest_checkpoint(run)
    assert skipped[0].reason == f"weights.safetensors has {len(content) - 1} bytes, the manifest says {len(content)}"
