"""JSON files that hold the SHA-256 of all the rest of themselves, so that no changed character goes unnoticed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

REMEDY = "copy the model's whole folder again from where it was made, or train it again"

_SEAL = "description_sha256"


def sealed(values: dict[str, Any]) -> dict[str, Any]:
    """The values with `description_sha256` of all the others."""
    rest = {name: value for name, value in values.items() if name != _SEAL}
    return rest | {_SEAL: sha256(json_text(rest).encode()).hexdigest()}


def write_sealed(path: Path, values: dict[str, Any]) -> None:
    """Write the values with their seal; the same values give the same bytes."""
    path.write_text(json_text(sealed(values)), encoding="utf-8")


def read_sealed(path: Path, version: int, fields: Sequence[str]) -> dict[str, Any]:
    """The values of a file of this `format_version` with these fields, seal included, verified.

    Raises:
        ValueError: it is missing, damaged or of another format.
    """
    values = _parsed(path)
    found = values.get("format_version")
    if found != version:
        raise ValueError(
            f"{path} has format_version {found}, this code reads {version}: "
            "use the version of this project that wrote it, or train the model again"
        )
    if sorted(values) != sorted(fields) or values != sealed(values):
        raise ValueError(f"{path} is damaged or was edited (its own SHA-256 does not match): {REMEDY}")
    return values


def json_text(values: dict[str, Any]) -> str:
    """As it is written and hashed."""
    return json.dumps(values, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def file_sha256(path: Path) -> str:
    """Of a file's bytes, hex."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def check_intact(path: Path, expected: str, described_by: str) -> None:
    """Refuse a file that is not the one with this SHA-256.

    Raises:
        ValueError: it is missing or another one.
    """
    if not path.is_file():
        raise ValueError(f"no model in {path.parent}: {path.name} is missing; {REMEDY}")
    if (found := file_sha256(path)) != expected:
        raise ValueError(
            f"{path} is damaged or not the file that {described_by} describes: its SHA-256 is {found[:12]}.., "
            f"wanted {expected[:12]}..; {REMEDY}"
        )


def _parsed(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"no model in {path.parent}: {path.name} is missing; {REMEDY}") from None
    except ValueError as error:  # not UTF-8, or not JSON
        raise ValueError(f"{path} is damaged ({error}): {REMEDY}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold an object, got {type(values).__name__}: {REMEDY}")
    return values
