"""Which versions are meant: numbers, aliases, the last ones, those that meet conditions."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

from pipelines.comparison.metrics import metrics_of
from pipelines.comparison.side_by_side import Entry
from pipelines.errors import ParamsError

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "==": operator.eq,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_CONDITION = re.compile(rf"\s*(?P<name>[\w.\-]+)\s*(?P<sign>{'|'.join(_OPERATORS)})\s*(?P<value>.+?)\s*")


def meeting(entries: Sequence[Entry], conditions: Sequence[str]) -> list[Entry]:
    """The versions that meet all conditions, such as `train.steps>=4000`, `fid<3` or `model.channels=32`.

    A name is that of a parameter, of a number of the evaluation (`bits_per_dim` and `fid` stand for
    `bits_per_dim.total` and `fid.value`), or `version`. A version that lacks it does not meet the condition.

    Raises:
        ParamsError: what is no condition, or names nothing that any version has.
    """
    left = list(entries)
    for text in conditions:
        if (match := _CONDITION.fullmatch(text)) is None:
            raise ParamsError(f"a condition is written NAME<VALUE, with one of {' '.join(_OPERATORS)}; got {text!r}")
        known = sorted({name for entry in entries for name in facts(entry)})
        if match["name"] not in known:
            raise ParamsError(f"no version has {match['name']}; there are {', '.join(known)}")
        left = [entry for entry in left if _holds(facts(entry).get(match["name"]), match["sign"], match["value"])]
    return left


def facts(entry: Entry) -> dict[str, str]:
    """All that a condition can name, as text."""
    numbers: dict[str, str] = {}
    for measurement in reversed(entry.measurements):  # the newest counts
        for metric in metrics_of([measurement]):
            if (value := metric.value(measurement)) is not None:
                numbers[metric.name] = repr(value)
                if metric.key in ("total", "value"):
                    numbers[metric.quantity] = repr(value)
    return {"version": str(entry.version.number), **numbers, **entry.version.params}


def _holds(found: str | None, sign: str, wanted: str) -> bool:
    if found is None:
        return False
    ours, theirs = _number(found), _number(wanted)
    if ours is not None and theirs is not None:
        return _OPERATORS[sign](ours, theirs)
    return _OPERATORS[sign](found, wanted)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
