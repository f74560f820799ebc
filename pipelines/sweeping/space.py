"""Which trials a sweep has: all combinations of lists, or random draws."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from pipelines.errors import ParamsError, first_line
from pipelines.params import Params, load_params

_RANGE = re.compile(r"(?P<kind>log|uniform|int)\((?P<low>[^,()]+),(?P<high>[^,()]+)\)")
_DIGITS = 4
"""Of a drawn number, so that it can be read and typed."""


@dataclass(frozen=True)
class Range:
    """Numbers to be drawn from: `log` (uniform in the logarithm), `uniform`, or `int` (both ends included)."""

    kind: str
    low: float
    high: float

    def at(self, u: float) -> float | int:
        """The value at u in [0, 1)."""
        if self.kind == "int":
            return int(self.low) + math.floor(u * (int(self.high) - int(self.low) + 1))
        if self.kind == "log":
            value = math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + u * (self.high - self.low)
        return float(f"{value:.{_DIGITS}g}")


@dataclass(frozen=True)
class Axis:
    """One parameter and what it takes."""

    key: str
    """`section.name`."""
    values: tuple[Any, ...] | Range


@dataclass(frozen=True)
class Trial:
    """One run."""

    values: dict[str, Any]
    """Parameter -> value."""
    params: Params

    @property
    def changes(self) -> list[str]:
        """As `load_params` and `dvc exp run -S` take them."""
        return changes_of(self.values)

    def __str__(self) -> str:
        return ", ".join(f"{key}={json.dumps(value)}" for key, value in self.values.items())


def changes_of(values: dict[str, Any]) -> list[str]:
    """Values as changes of params.yaml; JSON is YAML."""
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def read_axes(texts: Sequence[str], *, random: bool) -> list[Axis]:
    """The parameters that vary, each written KEY=VALUE,VALUE,.. or, for random draws, KEY=log(LOW,HIGH).

    Raises:
        ParamsError: naming everything that is written otherwise.
    """
    axes, problems = [], []
    for text in texts:
        try:
            axes.append(_axis(text, random=random))
        except ParamsError as error:
            problems.append(str(error))
    keys = [axis.key for axis in axes]
    problems += [f"{key} is given more than once" for key in dict.fromkeys(keys) if keys.count(key) > 1]
    if problems:
        raise ParamsError("\n".join(problems))
    return axes


def _axis(text: str, *, random: bool) -> Axis:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    key, sign, rest = (part.strip() for part in text.partition("="))
    if not key or not sign or not rest:
        raise ParamsError(f"a parameter is written KEY=VALUE,VALUE as in train.learning_rate=0.001,0.002; got {text!r}")
    if match := _RANGE.fullmatch(rest):
        if not random:
            raise ParamsError(f"{key}: {rest} is drawn from at random: say how often with --random N, or list values")
        return Axis(key, _range(key, rest, match))
    try:
        values = YAML(typ="safe", pure=True).load(f"[{rest}]")
    except YAMLError as error:
        raise ParamsError(f"{key}: {rest!r} is no list of YAML values: {first_line(error)}") from None
    return Axis(key, tuple(values))


def _range(key: str, text: str, match: re.Match[str]) -> Range:
    try:
        found = Range(match["kind"], float(match["low"]), float(match["high"]))
    except ValueError:
        raise ParamsError(f"{key}: {text} must hold two numbers") from None
    if not (math.isfinite(found.low) and math.isfinite(found.high) and found.low < found.high):
        raise ParamsError(f"{key}: {text} must go from a smaller number to a larger one")
    if found.kind == "log" and found.low <= 0:
        raise ParamsError(f"{key}: {text} must begin above 0")
    if found.kind == "int" and not (found.low.is_integer() and found.high.is_integer()):
        raise ParamsError(f"{key}: {text} must hold whole numbers")
    return found


def grid(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """All combinations of the lists, the last one varying fastest."""
    lists = [axis.values if isinstance(axis.values, tuple) else () for axis in axes]
    return [dict(zip((axis.key for axis in axes), values, strict=True)) for values in product(*lists)]


def draws(axes: Sequence[Axis], count: int, seed: int) -> list[dict[str, Any]]:
    """Random values: draw k of a parameter is a function of seed, its name and k, so that more draws add to fewer."""
    from diffusion.training.random import numbers

    def value(axis: Axis, k: int) -> Any:
        u = float(numbers(seed, f"sweep {axis.key}", k).random())
        return axis.values.at(u) if isinstance(axis.values, Range) else axis.values[int(u * len(axis.values))]

    return [{axis.key: value(axis, k) for axis in axes} for k in range(count)]


def trials(points: Sequence[dict[str, Any]]) -> list[Trial]:
    """Each of them once, with all of its parameters checked.

    Raises:
        ParamsError: with every problem of every trial.
    """
    found: dict[str, Trial] = {}
    problems: dict[str, None] = {}
    for values in points:
        try:
            params = load_params(changes=changes_of(values))
        except ParamsError as error:
            problems |= dict.fromkeys(str(error).splitlines())
        else:
            found.setdefault(json.dumps(values, sort_keys=True), Trial(values, params))
    if problems:
        raise ParamsError("\n".join(problems))
    return list(found.values())
