"""The name of a run's folder: a digest of all that its result depends on.

Equal keys mean the same run, so its checkpoints may be resumed; any difference means another run. Comments and
docstrings are no difference (see `source.py`), so a stage that DVC runs again after such an edit finds its finished
run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.runs.digest import digest
from pipelines.runs.source import source_digest

__all__ = ["FORMAT_VERSION", "digest", "run_key", "source_digest"]

FORMAT_VERSION = 1
"""Of everything kept in a run's folder. Raised when older folders cannot be read any more: all runs then start anew."""

_LENGTH = 16


def run_key(params_of_run: dict[str, Any], data_digest: str, packages: Sequence[Path]) -> str:
    """The run's key, 16 hexadecimal digits.

    Args:
        params_of_run: the parameters that change the run's result, as JSON values.
        data_digest: of the prepared data's manifest.
        packages: folders or files of the code that computes the result.

    Raises:
        ValueError: a parameter is no JSON value, or a package does not exist.
    """
    parts = {
        "format_version": FORMAT_VERSION,
        "params": params_of_run,
        "data": data_digest,
        "source": source_digest(packages),
    }
    return digest(parts)[:_LENGTH]
