"""Reading a YAML file into a strict model, and saying what is wrong with it."""

from __future__ import annotations

import copy
import difflib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pipelines.errors import ParamsError, first_line


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML 1.2 mapping as plain Python values (in YAML 1.1 `1e-4` would be a string)."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError

    try:
        content = YAML(typ="safe", pure=True).load(path.read_text())
    except FileNotFoundError:
        raise ParamsError(f"{path.name} not found at {path}") from None
    except (MarkedYAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path.name} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ParamsError(f"{path.name} must hold keys and values, got {type(content).__name__}")
    return content


def with_changes(content: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """The content with some values replaced, each given as `section.key=VALUE`, VALUE in YAML.

    Raises:
        ParamsError: a change is written otherwise.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    content = copy.deepcopy(content)
    for change in changes:
        path, sign, text = change.partition("=")
        *sections, key = path.strip().split(".")
        try:
            value = YAML(typ="safe", pure=True).load(text)
        except YAMLError as error:
            raise ParamsError(f"{change}: {text!r} is not valid YAML: {first_line(error)}") from None
        inner: Any = content
        for section in sections:
            inner = inner.setdefault(section, {}) if isinstance(inner, dict) else None
        if not sign or not key or not isinstance(inner, dict):
            raise ParamsError(f"a change is written section.key=VALUE, as in evaluate.images=100; got {change!r}")
        inner[key] = value
    return content


def bad_values(model: type[BaseModel], error: ValidationError, path: Path) -> ParamsError:
    """pydantic's report as a ParamsError with one line per problem."""
    return ParamsError(f"{path.name}:\n" + "\n".join(f"  {_explain(model, problem)}" for problem in error.errors()))


def _explain(model: type[BaseModel], problem: Any) -> str:
    """One line for one pydantic problem: key, what is wrong, what is allowed, the nearest known key."""
    names = [str(part) for part in problem["loc"]]
    key = ".".join(names) or "the file"
    if problem["type"] == "extra_forbidden":
        known = _keys_at(model, names[:-1])
        near = difflib.get_close_matches(names[-1], known, n=1)
        hint = f"did you mean {'.'.join([*names[:-1], near[0]])}?" if near else f"known here: {', '.join(known)}"
        return f"{key}: unknown key; {hint}"
    if problem["type"] == "missing":
        return f"{key}: missing, and it has no default"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{key}: {message}"
    return f"{key}: {message[0].lower()}{message[1:]}, got {problem['input']!r}"


def _keys_at(model: type[BaseModel], names: list[str]) -> list[str]:
    """The keys of the section that `names` leads to."""
    for name in names:
        field = next((f for n, f in model.model_fields.items() if (f.alias or n) == name), None)
        if field is None:
            return []
        options = typing.get_args(field.annotation) if isinstance(field.annotation, types.UnionType) else ()
        kinds = [
            kind for kind in (options or (field.annotation,)) if isinstance(kind, type) and issubclass(kind, BaseModel)
        ]
        if not kinds:
            return []
        model = kinds[0]
    return [field.alias or name for name, field in model.model_fields.items()]
