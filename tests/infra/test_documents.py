"""What infra/README.md and docs/security.md name is there."""

import re
from pathlib import Path

import pytest

from tests.infra.conftest import INFRA, ROOT

PAGES = [INFRA / "README.md", ROOT / "docs" / "security.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [target for target in re.findall(r"\]\(([^)#]+)", page.read_text()) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_files_in_commands_exist(page: Path) -> None:
    named = re.findall(r"\binfra/[\w./-]*[\w]", page.read_text())
    made = ("infra/mlflow/secrets",)
    assert named
    assert [name for name in named if not (ROOT / name).exists() and not name.startswith(made)] == []


def test_every_folder_is_in_the_table() -> None:
    table = (INFRA / "README.md").read_text().split("\n## ")[0]
    folders = {path.name for path in INFRA.iterdir() if path.is_dir()}
    assert {name for name in folders if f"]({name}" not in table} == set()
