"""Digests of values."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from pipelines.runs.canonical import canonical_json


def sha256_hex(content: bytes) -> str:
    """SHA-256 of bytes, 64 hexadecimal digits."""
    return sha256(content).hexdigest()


def digest(value: Any) -> str:
    """SHA-256 (hex) of a JSON value: equal values have equal digests, whatever the order of their keys.

    Numbers count as written: 10 and 10.0 differ.

    Raises:
        ValueError: the value is not JSON (see `canonical_json`).
    """
    return sha256_hex(canonical_json(value).encode())
