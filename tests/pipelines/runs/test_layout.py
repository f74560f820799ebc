"""The names in a run's folder and their order."""

from itertools import permutations
from pathlib import Path

import pytest

from pipelines.runs.layout import folder_of, folders


@pytest.mark.parametrize(
    ("step", "final", "name"), [(250, False, "step-00000250"), (2000, True, "step-00002000-final")]
)
def test_names(tmp_path, step, final, name):
    folder = folder_of(tmp_path, step, final)
    assert folder.path == tmp_path / name
    folder.path.mkdir()
    assert folders(tmp_path) == [folder]


def test_the_final_one_is_the_newer_of_its_step():
    parts = [(750, False), (500, True), (500, False), (250, True)]
    for order in permutations(folder_of(Path(), *part) for part in parts):
        assert [(folder.step, folder.final) for folder in sorted(order, reverse=True)] == parts
        assert len(set(order)) == len(parts)


@pytest.mark.parametrize(
    "name", ["step-250", "step-00000250-last", ".step-00000250.0a.tmp", "lock.json", "xstep-00000250"]
)
def test_other_names_are_no_checkpoints(tmp_path, name):
    (tmp_path / name).mkdir()
    assert folders(tmp_path) == []
