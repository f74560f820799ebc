"""The scan that the other tests here stand on, on a project small enough to see its answer."""

import pytest

FILES = {
    "diffusion/__init__.py": '"""Only words."""',
    "diffusion/low/__init__.py": "from diffusion.low.first import x",
    "diffusion/low/first.py": "x = 1",
    "diffusion/low/second.py": "from . import first\nfrom .first import x\nfrom ..high import top",
    "diffusion/high/__init__.py": "",
    "diffusion/high/top.py": "import json, diffusion.low.first as f",
    "diffusion/served.py": "import diffusion.high.top",
    "pipelines/__init__.py": "",
    "pipelines/typed.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import diffusion.high.top",
    "pipelines/lazy.py": "def f():\n    import torch\n    from diffusion.low import first\nclass C:\n    import pandas",
    "pipelines/named.py": "code = 'diffusion/served.py'",
    "pipelines/beside.py": "code = Path(__file__).with_name('named.py')",
    "pipelines/command.py": "import os\nif __name__ == '__main__':\n    from pipelines.lazy import f\n    f()",
}


@pytest.fixture
def small(tmp_path, project_at):
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return project_at(tmp_path)


LOW = {"diffusion", "diffusion.low", "diffusion.low.first"}
HIGH = {"diffusion", "diffusion.high", "diffusion.high.top"}


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("diffusion.low.first", LOW),
        ("diffusion.low.second", {"diffusion.low.second"} | LOW | HIGH),
        ("diffusion.high.top", HIGH | LOW),
        ("pipelines.typed", {"pipelines", "pipelines.typed"}),
        ("pipelines.lazy", {"pipelines", "pipelines.lazy"} | LOW),
        ("pipelines.named", {"pipelines", "pipelines.named", "diffusion.served"} | HIGH | LOW),
        ("pipelines.beside", {"pipelines", "pipelines.beside", "pipelines.named", "diffusion.served"} | HIGH | LOW),
        ("pipelines.command", {"pipelines", "pipelines.command", "pipelines.lazy"} | LOW),
    ],
)
def test_reached(small, name, others):
    assert set(small.reached(name)) == others


def test_top_level_imports_are_those_that_importing_runs(small):
    assert small.modules["pipelines.lazy"].imports(top_level=True) == {"pandas"}
    assert small.modules["pipelines.lazy"].imports() == {"pandas", "torch", "diffusion.low", "diffusion.low.first"}
    assert small.modules["pipelines.command"].imports(top_level=True) == {"os"}
    assert [module.name for module in small.commands] == ["pipelines.command"]


def test_words_are_no_code(small):
    assert not small.modules["diffusion"].has_code
    assert not small.modules["pipelines"].has_code
    assert small.modules["diffusion.low"].has_code


def test_files_without_git(small):
    assert sorted(str(path) for path in small.files) == sorted(FILES)
