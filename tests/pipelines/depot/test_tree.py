"""A folder's manifest: one spelling, one digest, and no name that leads elsewhere."""

import os
from hashlib import sha256

import pytest

from pipelines.depot.tree import Tree, tree_of
from pipelines.errors import DataError
from pipelines.runs.manifest import FileEntry
from tests.pipelines.depot.conftest import FILES


def test_a_folder_is_its_files(folder):
    (folder / "nothing").mkdir()
    tree = tree_of(folder)
    assert tree.files == {name: FileEntry.of(content) for name, content in FILES.items()}
    assert tree.digest == sha256(tree.encode()).hexdigest()
    assert tree.size == sum(map(len, FILES.values()))
    assert tree_of(folder, ["empty", "deep/er/weights.bin"]).files.keys() == {"empty", "deep/er/weights.bin"}


def test_it_is_written_and_read(folder):
    tree = tree_of(folder)
    assert Tree.decode(tree.encode()) == tree
    assert Tree(dict(reversed(tree.files.items()))).encode() == tree.encode()


@pytest.mark.parametrize("name", ["../folder/empty", "/etc/hostname", "deep/../empty", "", ".", "deep//er", "a\\b"])
def test_names_that_lead_out_are_refused(folder, name):
    with pytest.raises(DataError, match="is no name of a file below a folder"):
        tree_of(folder, [name])
    with pytest.raises(DataError, match="is no name of a file below a folder"):
        Tree({name: FileEntry.of(b"")})


def test_a_link_to_a_file_is_that_file(folder, tmp_path):
    """As in results whose files DVC keeps in its cache."""
    before = tree_of(folder)
    (folder / "empty").rename(tmp_path / "cached")
    (folder / "empty").symlink_to(tmp_path / "cached")
    assert tree_of(folder) == before


def test_other_links_and_what_is_no_file_are_refused(folder, tmp_path):
    (folder / "link").symlink_to(tmp_path)
    for names in (None, ["link/folder/empty"]):
        with pytest.raises(DataError, match="link is a link"):
            tree_of(folder, names)
    (folder / "link").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(DataError, match="pipe is no plain file"):
        tree_of(folder)
    with pytest.raises(DataError, match="absent is missing"):
        tree_of(folder, ["absent"])


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace('"size":2', '"size":-2'),
        lambda text: text.replace('"sha256":"', '"sha256":"../'),
        lambda text: text.replace('"empty"', '"twice/empty"'),
        lambda text: text.replace('"format_version":1', '"format_version":2'),
        lambda text: text[:-9],
    ],
)
def test_a_damaged_one_is_refused(folder, damage):
    text = tree_of(folder).encode().decode()
    with pytest.raises(DataError, match="a folder's manifest "):
        Tree.decode(damage(text).encode())
