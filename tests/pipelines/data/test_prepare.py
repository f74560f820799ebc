"""The prepare stage on real files: what is stored, what is left out, and what is said about it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipelines.data.dataset import open_split
from pipelines.data.manifest import verify
from pipelines.errors import DataError, ParamsError
from pipelines.params import Params
from pipelines.prepare import draw, prepare


def params(path: Path | None = None, **changes) -> Params:
    source = {"source": "folder", "path": str(path)} if path else {"source": "digits"}
    size = {"image_size": 8} if path else {}
    return Params.model_validate(
        {
            "seed": 0,
            "data": source,
            "prepare": {**size, "val_fraction": 0.2, "test_fraction": 0.2, **changes},
            "process": {"schedule": "linear", "T": 100},
            "model": {"channels": 8, "channel_multipliers": [1]},
            "train": {"steps": 1, "batch_size": 8, "learning_rate": 0.1},
            "sample": {"count": 100},
            "register": {"name": "test"},
        }
    )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Sixty grey images of mixed sizes in two classes, each of one grey level of its own."""
    root = tmp_path / "images"
    for k in range(60):
        folder = root / ("apples", "pears")[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8 + k % 5, 8 + k % 7), 4 * k).save(folder / f"{k}.{('png', 'PNG', 'bmp')[k % 3]}")
    return root


def test_digits_are_stored_as_they_are(tmp_path):
    manifest = prepare(params(), tmp_path)
    assert (manifest.shape, manifest.levels, manifest.total) == ((1, 8, 8), 17, 1797)
    assert len(manifest.classes) == 10
    train = open_split(tmp_path, "train")
    pixels = train.read(np.arange(len(train)))
    assert (pixels.min(), pixels.max()) == (0, 16)
    draw(tmp_path)
    with Image.open(tmp_path / "data.png") as picture:
        assert picture.width > 1000


def test_a_folder_with_classes(images, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    manifest = prepare(params(images, shard_size=7), out)
    assert manifest.classes == ("apples", "pears")
    assert sum(manifest.counts.values()) == 60
    assert all(shard.count <= 7 for shard in manifest.shards)
    table = pd.read_parquet(out / "images.parquet")
    assert len(table) == 60
    for name in ("train", "val", "test"):
        split = open_split(out, name)
        for level, label in zip(split.read(np.arange(len(split))).reshape(len(split), -1), split.labels, strict=True):
            assert level.min() == level.max()  # a constant image stays constant
            assert label == (level[0] // 4) % 2
        backwards = np.arange(len(split))[::-1]
        assert np.array_equal(split.read(backwards), split.read(np.arange(len(split)))[::-1])
    assert verify(out) == manifest


def test_names_and_places_of_files_change_nothing(images, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    first = prepare(params(images), tmp_path / "one")
    moved = tmp_path / "elsewhere"
    images.rename(moved)
    for path in sorted(moved.rglob("*.*"), reverse=True):
        path.rename(path.with_name(f"renamed-{path.name}"))
    second = prepare(params(moved), tmp_path / "two")
    assert second.digest == first.digest
    for shard in (tmp_path / "one").glob("*.npy"):
        assert shard.read_bytes() == (tmp_path / "two" / shard.name).read_bytes()


def test_duplicates_are_kept_once(images, tmp_path):
    for k in range(5):
        (images / "apples" / f"copy-{k}.png").write_bytes((images / "apples" / "0.png").read_bytes())
    (images / "note.txt").write_text("ignored")
    out = tmp_path / "out"
    out.mkdir()
    manifest = prepare(params(images), out)
    assert (manifest.total, manifest.duplicates) == (60, 5)
    assert manifest.ignored == {".txt": 1}


def test_bad_files_are_all_listed(images, tmp_path):
    (images / "apples" / "0.png").write_bytes(b"")
    (images / "pears" / "1.PNG").write_bytes(b"text")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(DataError) as error:
        prepare(params(images), out)
    for text in ("apples/0.png", "pears/1.PNG", "bad_images"):
        assert text in str(error.value)
    with pytest.raises(DataError, match="max_bad_fraction"):
        prepare(params(images, bad_images="skip", max_bad_fraction=0.01), out)
    manifest = prepare(params(images, bad_images="skip", max_bad_fraction=0.5), out)
    assert manifest.total == 58
    assert sorted(bad.name for bad in manifest.bad) == ["apples/0.png", "pears/1.PNG"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: [path.unlink() for path in root.rglob("*.*")], "no images"),
        (lambda root: root.rename(root.with_name("gone")), "there is no folder"),
        (lambda root: Image.new("L", (8, 8)).save(root / "loose.png"), "lie directly in the folder"),
    ],
    ids=["empty", "missing", "mixed"],
)
def test_folders_that_cannot_be_used(images, tmp_path, spoil, message):
    spoil(images)
    with pytest.raises(DataError, match=message):
        prepare(params(images), tmp_path)


def test_a_folder_needs_an_image_size(images, tmp_path):
    with pytest.raises(ParamsError, match=r"prepare\.image_size"):
        prepare(params(images, image_size=None), tmp_path)


def test_damaged_shards_are_found(images, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    manifest = prepare(params(images), out)
    shard = out / manifest.shards[0].name
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match=f"{shard.name}: damaged"):
        verify(out)
    shard.write_bytes(content[:-10])
    with pytest.raises(DataError, match=shard.name):
        open_split(out, manifest.shards[0].split)
    shard.unlink()
    with pytest.raises(DataError, match=shard.name):
        open_split(out, manifest.shards[0].split)
    edited = json.loads((out / "manifest.json").read_text()) | {"format_version": 2}
    (out / "manifest.json").write_text(json.dumps(edited))
    with pytest.raises(DataError, match="format_version"):
        verify(out)
