"""One tiny project that has been run once, shared by the tests of a module."""

from pathlib import Path

import pytest

from tests.end_to_end.project import TINY, Project


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone with the tiny parameters, committed, not run."""
    folder: Path = tmp_path_factory.mktemp("project")
    project = Project.clone(folder)
    project.set(**TINY)
    project.commit("tiny parameters")
    return project
