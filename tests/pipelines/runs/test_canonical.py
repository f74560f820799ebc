"""One text for one value."""

import pytest

from pipelines.runs.canonical import canonical_json


def test_keys_are_sorted_at_every_depth():
    assert canonical_json({"b": {"d": 1, "c": (2, None)}, "a": True}) == '{"a":true,"b":{"c":[2,null],"d":1}}'


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"loss": [0.1, float("nan")]}, r"loss\[1\]: nan is not finite"),
        ({"a": {"b": float("inf")}}, r"a\.b: inf is not finite"),
        (float("-inf"), "the value: -inf"),
        ({"a": {1: 2}}, "a: keys must be strings, got 1"),
        ({"a": [object()]}, r"a\[0\]: object is not a JSON value"),
        ({"a": {1, 2}}, "a: set is not a JSON value"),
    ],
)
def test_what_json_cannot_give_back_is_refused_by_name(value, message):
    with pytest.raises(ValueError, match=message):
        canonical_json(value)
