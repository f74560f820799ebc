"""Code has a new digest if and only if it can do something new."""

import shutil
from pathlib import Path

import pytest

from pipelines.runs.source import source_digest

CODE = '''"""What the module is for."""

import math

SIZE = 10
"""Of everything."""


class Box:
    """Holds a thing."""

    width: float = 1.0
    """In metres."""

    def area(self, height: float) -> float:
        """Square metres."""
        # width times height
        return self.width * height + math.pi


async def later():
    """Not now."""
    return f"{SIZE}" + 'text'
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package with a module and a sub-package."""
    folder = tmp_path / "project" / "package"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "inner" / "__init__.py").touch()
    (folder / "inner" / "box.py").write_text(CODE)
    (folder / "other.py").write_text("x = 1\n")
    return folder


SAME = {
    "comment edited": ("# width times height", "# the rectangle's area"),
    "comment removed": ("        # width times height\n", ""),
    "comment added": ("import math", "import math  # for pi"),
    "module docstring edited": ("What the module is for.", "What this is about."),
    "module docstring removed": ('"""What the module is for."""\n', ""),
    "class docstring edited": ("Holds a thing.", "Holds nothing."),
    "class docstring removed": ('    """Holds a thing."""\n\n', ""),
    "method docstring edited": ("Square metres.", "In square metres."),
    "method docstring removed": ('        """Square metres."""\n', ""),
    "coroutine docstring edited": ("Not now.", "Some day."),
    "field docstring edited": ("In metres.", "In feet."),
    "constant docstring edited": ("Of everything.", "Of all."),
    "docstring added": ("import math", 'import math\n\n"""More words."""'),
    "blank lines added": ("import math", "\n\n\nimport math\n\n\n"),
    "line broken": (
        "self.width * height + math.pi",
        "(\n            self.width * height\n            + math.pi\n        )",
    ),
    "parentheses added": ("self.width * height + math.pi", "(self.width * height) + math.pi"),
    "other quotes": ("'text'", '"text"'),
}

DIFFERENT = {
    "number": ("SIZE = 10", "SIZE = 11"),
    "type of a number": ("SIZE = 10", "SIZE = 10.0"),
    "text for a number": ("SIZE = 10", "SIZE = '10'"),
    "truth for a number": ("SIZE = 10", "SIZE = True"),
    "operator": ("self.width * height", "self.width / height"),
    "order of a sum's terms": ("self.width * height + math.pi", "math.pi + self.width * height"),
    "text that is used": ("'text'", "'Text'"),
    "bytes for text": ("'text'", "b'text'"),
    "text in a format": ('f"{SIZE}"', 'f"{SIZE}."'),
    "conversion in a format": ('f"{SIZE}"', 'f"{SIZE!r}"'),
    "name": ("def area", "def surface"),
    "argument's default": ("height: float)", "height: float = 1.0)"),
    "annotation": ("width: float", "width: int"),
    "statement added": ("import math", "import math\nimport json"),
    "statement removed": ("import math\n", ""),
    "order of statements": ("import math\n\nSIZE = 10", "SIZE = 10\n\nimport math"),
    "return without its value": ("return self.width * height + math.pi", "return"),
    "return None for return": ("async def later", "def nothing():\n    return None\n\n\nasync def later"),
    "decorator": ("class Box:", "@staticmethod\nclass Box:"),
    "not a coroutine": ("async def later", "def later"),
}


@pytest.mark.parametrize("edit", SAME.values(), ids=SAME.keys())
def test_comments_docstrings_and_layout_do_not_count(package, edit):
    before, after = _digests_around(package, edit)
    assert before == after


@pytest.mark.parametrize("edit", DIFFERENT.values(), ids=DIFFERENT.keys())
def test_every_other_edit_counts(package, edit):
    before, after = _digests_around(package, edit)
    assert before != after


def _digests_around(package, edit):
    old, new = edit
    assert CODE.count(old) == 1
    before = source_digest([package])
    (package / "inner" / "box.py").write_text(CODE.replace(old, new))
    return before, source_digest([package])


def test_none_returned_is_told_from_nothing_returned(package):
    (package / "other.py").write_text("def f():\n    return\n")
    bare = source_digest([package])
    (package / "other.py").write_text("def f():\n    return None\n")
    assert source_digest([package]) != bare


def test_a_docstring_in_an_empty_file_does_not_count(package):
    before = source_digest([package])
    (package / "__init__.py").write_text('"""A package."""\n')
    assert source_digest([package]) == before


def test_files_count_by_name_and_only_python_files(package):
    before = source_digest([package])
    (package / "notes.md").write_text("words")
    (package / ".checkpoints").mkdir()
    (package / ".checkpoints" / "box.py").write_text("an editor's copy, not even Python")
    assert source_digest([package]) == before
    (package / "other.py").rename(package / "another.py")
    renamed = source_digest([package])
    (package / "new.py").touch()
    assert len({before, renamed, source_digest([package])}) == 3


def test_the_projects_folder_the_order_and_overlaps_do_not_count(package, tmp_path):
    before = source_digest([package])
    copy = tmp_path / "elsewhere" / "package"
    shutil.copytree(package, copy)
    parts = [copy / "other.py", copy / "inner" / "box.py", copy / "inner", copy / "__init__.py"]
    assert source_digest([copy]) == source_digest(parts) == source_digest(parts[::-1]) == before
    assert source_digest([package, copy]) == before


def test_a_module_moved_to_another_package_counts(package):
    before = source_digest([package])
    (package / "other.py").rename(package / "inner" / "other.py")
    assert source_digest([package]) != before


@pytest.mark.parametrize("path", ["absent", "empty"])
def test_a_path_without_code_is_refused(tmp_path, path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=f"no Python files at .*{path}"):
        source_digest([tmp_path / path])


def test_the_digest_is_the_same_in_every_process():
    """Pinned so that an accidental change of the notation, which would start every run anew, is seen."""
    import ast

    from pipelines.runs.source import _normal

    tree = ast.parse('"""Words."""\nx: int = f(1, *[], k=None)  # comment\n')
    assign = [
        "AnnAssign",
        ["target", ["Name", ["id", "x"], ["ctx", ["Store"]]]],
        ["annotation", ["Name", ["id", "int"], ["ctx", ["Load"]]]],
        [
            "value",
            [
                "Call",
                ["func", ["Name", ["id", "f"], ["ctx", ["Load"]]]],
                ["args", [["Constant", "1"], ["Starred", ["value", ["List", ["ctx", ["Load"]]]], ["ctx", ["Load"]]]]],
                ["keywords", [["keyword", ["arg", "k"], ["value", ["Constant", "None"]]]]],
            ],
        ],
        ["simple", 1],
    ]
    assert _normal(tree) == ["Module", ["body", [assign]]]
