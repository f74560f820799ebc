"""No file that the project reads can run code: no pickle, no unsafe loaders, no evaluated text."""

import ast

import pytest

MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "hickle", "jsonpickle"}
BUILTINS = {"eval", "exec"}
CALLS = {
    "torch.load",
    "torch.save",
    "torch.serialization.load",
    "yaml.load",
    "yaml.full_load",
    "yaml.unsafe_load",
    "pandas.read_pickle",
    "numpy.lib.format.read_array",
}
METHODS = {"to_pickle"}


def unsafe(tree: ast.Module):
    """What must not be there, with its line."""
    names = imported_names(tree)
    for name, line in names.values():
        if name in CALLS or name.split(".")[0] in MODULES:
            yield f"import {name}", line
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = full_name(node.func, names)
            if called in CALLS | BUILTINS or called.rpartition(".")[2] in METHODS:
                yield called, node.lineno
            yield from ((argument, node.lineno) for argument in map(unsafe_argument, node.keywords) if argument)


def imported_names(tree: ast.Module) -> dict[str, tuple[str, int]]:
    """What each imported name stands for, and its line: pd -> pandas."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name] = alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}", node.lineno
    return found


def full_name(function: ast.expr, names: dict[str, tuple[str, int]]) -> str:
    """`pandas.read_pickle` for pd.read_pickle; a name that was not imported counts only where it is called alone, since
    an object may be called yaml, too."""
    first, _, rest = ast.unparse(function).partition(".")
    if first in names:
        return f"{names[first][0]}.{rest}".rstrip(".")
    return f"?.{rest}" if rest else first


def unsafe_argument(keyword: ast.keyword) -> str | None:
    value = keyword.value.value if isinstance(keyword.value, ast.Constant) else ast.unparse(keyword.value)
    if keyword.arg == "allow_pickle" and value is not False:
        return f"allow_pickle={value}"
    if keyword.arg == "typ" and value == "unsafe":
        return "typ='unsafe'"
    return None


def test_nothing_unsafe_in_any_file(project):
    wrong = [f"{path}:{line} {what}" for path, tree in project.python_files().items() for what, line in unsafe(tree)]
    assert not wrong


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "import joblib.numpy_pickle",
        "from torch import load",
        "import torch\ntorch.load(f)",
        "import torch\ntorch.save(x, f)",
        "def f():\n    import torch\n    torch.load(f, weights_only=True)",
        "import torch as t\nt.load(f)",
        "import pandas as pd\npd.read_pickle(f)",
        "np.load(f, allow_pickle=True)",
        "np.load(f, allow_pickle=flag)",
        "import yaml\nyaml.load(f)",
        "from yaml import load",
        "YAML(typ='unsafe')",
        "frame.to_pickle(f)",
        "eval('1')",
        "exec(code)",
    ],
)
def test_each_unsafe_thing_is_found(code):
    assert list(unsafe(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "model.eval()",
        "np.load(f, allow_pickle=False)",
        "import yaml\nyaml.safe_load(f)",
        "yaml = YAML()\nyaml.load(f)",
        "YAML(typ='safe')",
        "json.load(f)",
        "# pickle",
    ],
)
def test_what_is_safe_is_left_alone(code):
    assert not list(unsafe(ast.parse(code)))
