"""One text for one JSON value, so that its digest means the value and not the way it was written."""

from __future__ import annotations

import json
import math
from typing import Any


def canonical_json(value: Any) -> str:
    """`value` as JSON with sorted keys, no spaces, ASCII only. Tuples are written as lists.

    Raises:
        ValueError: the value holds something that JSON cannot give back as it was (a number that is not finite, a key
            that is not a string, an object); the message names where, for example `history.loss[3]`.
    """
    _check(value, "")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _check(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, part in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{where or 'the value'}: keys must be strings, got {key!r}")
            _check(part, f"{where}.{key}" if where else key)
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            _check(part, f"{where}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where or 'the value'}: {value} is not finite; JSON has no such number, use null")
    elif value is not None and not isinstance(value, str | bool | int | float):
        raise ValueError(f"{where or 'the value'}: {type(value).__name__} is not a JSON value")
