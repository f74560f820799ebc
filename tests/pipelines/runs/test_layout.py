"""The names in a run's place and their order."""

from itertools import permutations

import pytest

from pipelines.runs.layout import folder_named, folder_of, folders
from pipelines.runs.local import LocalStore


@pytest.mark.parametrize(
    ("step", "final", "name"), [(250, False, "step-00000250"), (2000, True, "step-00002000-final")]
)
def test_names(tmp_path, step, final, name):
    folder = folder_of(step, final)
    assert folder.name == name
    assert folder_named(name) == folder
    (tmp_path / name).mkdir()
    assert folders(LocalStore(tmp_path)) == [folder]


def test_the_final_one_is_the_newer_of_its_step():
    parts = [(750, False), (500, True), (500, False), (250, True)]
    for order in permutations(folder_of(*part) for part in parts):
        assert [(folder.step, folder.final) for folder in sorted(order, reverse=True)] == parts
        assert len(set(order)) == len(parts)


@pytest.mark.parametrize(
    "name", ["step-250", "step-00000250-last", ".step-00000250.0a.tmp", "lock.json", "xstep-00000250"]
)
def test_other_names_are_no_checkpoints(tmp_path, name):
    (tmp_path / name).mkdir()
    assert folder_named(name) is None
    assert folders(LocalStore(tmp_path)) == []
