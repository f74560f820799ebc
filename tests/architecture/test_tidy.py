"""Files stay short, and nothing in them belongs to one machine."""

import ast
import re

import pytest

LONGEST_FILE = 300
LONGEST_FUNCTION = 60

MACHINE = re.compile(
    r"""
    (?<![\w.])/(home|Users)/[a-z][\w.-]*      # someone's home folder
    | (?<![\w.])/root/                        # the administrator's
    | (?<![\w.])/work/                        # a mounted workspace
    | (?<![\w.])/mnt/[a-z]                    # a mounted disk
    | [A-Z]:\\Users\\                         # someone's home folder on Windows
    """,
    re.VERBOSE,
)
REGISTRY = re.compile(
    r"""
    (index[-_]url|find[-_]links|trusted[-_]host|INDEX|PIP_INDEX|UV_INDEX|registry)["']?\s*[=:]?\s*["']?https?://
    | https?://[^\s"']*/simple\b              # a package index
    | files\.python-?hosted\.org | test\.pypi\.org
    | \b(artifactory|nexus|devpi|verdaccio|jfrog)\b
    | \bregistry\.[a-z0-9-]+\.[a-z]{2,} | \.pkg\.dev\b | \.dkr\.ecr\.
    """,
    re.VERBOSE | re.IGNORECASE,
)


def lines_of(project):
    """(path, number, line) of every text file."""
    for path in project.files:
        try:
            text = (project.root / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            yield path, number, line


@pytest.mark.parametrize("pattern", [MACHINE, REGISTRY], ids=["machine paths", "registry addresses"])
def test_no_file_names_a_machine_or_a_registry(project, pattern):
    this_file = "tests/architecture/test_tidy.py"
    found = [f"{path}:{n}: {line[:100]}" for path, n, line in lines_of(project) if pattern.search(line)]
    assert [line for line in found if not line.startswith(this_file)] == []


@pytest.mark.parametrize(
    "line",
    [
        "path = '/home/ada/data'",
        "open('/root/.cache')",
        "cd /work/project",
        "/Users/ada",
        r"C:\Users\ada",
        "data: /mnt/disk1",
    ],
)
def test_a_machines_path_is_found(line):
    assert MACHINE.search(line)


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://packages.example.com/pypi",
        "index-url = http://10.0.0.1:8080/root",
        "PIP_INDEX_URL=https://user@host/simple",
        "url = 'https://host/repository/python/simple/'",
        "https://files.pythonhosted.org/packages/ab/x.whl",
        "image: registry.example.com/team/image:1",
        "https://europe-docker.pkg.dev/x",
    ],
)
def test_a_registrys_address_is_found(line):
    assert REGISTRY.search(line)


@pytest.mark.parametrize(
    "line",
    [
        "https://github.com/owner/name",
        "http://127.0.0.1:5000",
        "results/home/page",
        "simple_loss(model)",
        "the model registry",
        "a ~/.cache folder",
        "home() / 'x'",
        "tracking.uri: http://host:5000",
        "/tmp",
    ],
)
def test_ordinary_lines_are_left_alone(line):
    assert not MACHINE.search(line)
    assert not REGISTRY.search(line)


def test_no_file_is_too_long(project):
    lengths = {path: (project.root / path).read_text().count("\n") for path in project.python_files()}
    assert {str(path): length for path, length in lengths.items() if length > LONGEST_FILE} == {}


def test_no_function_is_too_long(project):
    lengths = {
        f"{path}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path, tree in project.python_files().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}
